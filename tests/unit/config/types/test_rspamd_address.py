"""The address of rspamd."""

import pytest

from triosmtp.config import parse_config
from triosmtp.config.types.rspamd_address import parse_rspamd_address
from triosmtp.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "url", "is_readable"),
    [
        ("rspamd:http://127.0.0.1:11333", "http://127.0.0.1:11333", False),
        ("rspamd:http://localhost:11333/", "http://localhost:11333", False),
        ("rspamd:http://[::1]:11333", "http://[::1]:11333", False),
        ("rspamd:http://[0:0::1]/", "http://[::1]:80", False),
        ("rspamd:http://rspamd:11333", "http://rspamd:11333", True),
        ("rspamd:http://192.0.2.1:11333", "http://192.0.2.1:11333", True),
        ("rspamd:https://scan.example.org/rspamd/", "https://scan.example.org:443/rspamd", False),
    ],
)
def test_addresses(text: str, url: str, is_readable: bool) -> None:
    found = parse_rspamd_address(text)
    assert (found.url, found.is_readable) == (url, is_readable)
    assert parse_rspamd_address(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "rspamd:", "rspamd:http://", "rspamd:127.0.0.1:11333", "rspamd:http://h:0", "rspamd:http://h:65536",
        "rspamd:http://h/?x", "rspamd:http://h/#x", "rspamd:http://h/a b", "rspamd:ftp://h", "rspamd:http://[::1",
        "rspamd:http://[1:2]:80", "rspamd:unix:/run/rspamd.sock", "rspamd:http://h/\r\nX: y",
    ],
)  # fmt: skip
def test_what_is_no_address_says_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected rspamd:http://host:port|not appear to be"):
        parse_rspamd_address(text)


def test_a_password_in_the_address_is_an_error_that_does_not_show_it() -> None:
    with pytest.raises(ValueError, match="use Password_File of a Filter") as error:
        parse_rspamd_address("rspamd:http://joe:secret@h")
    assert "secret" not in str(error.value)


def problems(text: str) -> list[str]:
    try:
        found = parse_config(f'{text} ESMTP_Listener {{ Listen ":25" {{ }} }}').warnings
    except ConfigError as error:
        found = tuple(error.problems)
    return [problem.message for problem in found]


SCOPE = 'Policy = ( "filter:x" ) Filter "x" {{ Connect_To = "{}" {} }}'


def test_what_leaves_the_host_in_the_clear_is_a_warning_and_with_a_password_an_error() -> None:
    [warning] = problems('Policy = ( "rspamd:http://rspamd:11333" )')
    assert warning.endswith("rspamd:http://rspamd:11333 are not encrypted on their way: use https")
    assert not problems('Policy = ( "rspamd:http://127.0.0.1:11333" )')
    found = problems(SCOPE.format("rspamd:http://rspamd:11333", 'Password_File = "p"'))
    assert any("others could read the password on its way" in each for each in found)
    assert not problems(SCOPE.format("rspamd:https://rspamd:11333", 'Password_File = "p" Settings_ID = "x"'))


def test_rspamd_is_asked_about_whole_messages_alone() -> None:
    [error] = problems(SCOPE.format("rspamd:http://[::1]:1", "Phases = ( rcptto data_spool )"))
    assert error.startswith("Phases: ")
    assert not problems(SCOPE.format("rspamd:http://[::1]:1", "Phases = ( data_spool )"))
    found = problems(SCOPE.format("policyd:inet:h:1", 'Password_File = "p" Settings_ID = "x"'))
    assert [each.split()[0] for each in found] == ["Password_File", "Settings_ID"]
