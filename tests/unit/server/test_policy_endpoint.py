"""The requirements for policy clients of a Listen: its tokens."""

from pathlib import Path

import pytest

from triosmtp import ConfigError, load_config
from triosmtp.commands.check_command import check_config
from triosmtp.errors import Severity
from triosmtp.server.policy_endpoint import read_policy_endpoints

MAIL = 'ESMTP_Listener { Listen ":25" { } } Relay_Domains = ( "example.com" ) Deliver_To = "discard:" '


def conf(folder: Path, token: bytes | None = b"0123456789abcdef") -> Path:
    path = folder / "t.conf"
    path.write_text(MAIL + 'Policy = "websocket:x" Policy_Listener { Token_File = "token" Listen "127.0.0.1:0" { } }')
    if token is not None:
        (folder / "token").write_bytes(token)
        (folder / "token").chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "No such file"),
        (b"", "found 0"),
        (b"short", "expected a token of 16 to 4096 characters, found 5"),
        (b"x" * 5000, "expected a token"),
        (b"two words are too many", "without blanks"),
        (b"\xff" * 20, "printable ASCII"),
    ],
)
def test_a_token_that_cannot_be_used_is_an_error(tmp_path: Path, token: bytes | None, said: str) -> None:
    config = load_config(conf(tmp_path, token))
    with pytest.raises(ConfigError, match=said) as raised:
        read_policy_endpoints(config)
    (problem,) = raised.value.problems
    assert str(problem).startswith(f"{tmp_path}/t.conf:1:")
    assert problem in check_config(config)


def test_tokens_are_read_without_white_space_and_never_shown(tmp_path: Path) -> None:
    (endpoint,) = read_policy_endpoints(load_config(conf(tmp_path, b"\n 0123456789abcdef \r\n"))).values()
    assert endpoint.token == "0123456789abcdef"
    assert "0123456789abcdef" not in repr(endpoint)


def test_a_token_that_others_can_read_is_a_loud_warning(tmp_path: Path) -> None:
    config = load_config(conf(tmp_path))
    assert not [problem for problem in check_config(config) if "token" in problem.message]
    (tmp_path / "token").chmod(0o644)
    (found,) = [problem for problem in check_config(config) if "token" in problem.message]
    assert found.severity is Severity.WARNING
    assert "others can read or change it (mode 0644)" in found.message
