"""Auth_Service: its form, and its place beside files of passwords."""

import pytest

from triosmtp.config import parse_config
from triosmtp.errors import ConfigError

FILE = 'AuthPlainParameters = [ uri = "file:///p" ]'
SERVICE = 'Auth_Service = "dovecot:/run/auth"'


def problems(text: str) -> list[str]:
    try:
        return [problem.message for problem in parse_config(text).warnings]
    except ConfigError as error:
        return [problem.message for problem in error.problems]


@pytest.mark.parametrize(
    "text",
    [
        f'{SERVICE} {FILE} ESMTP_Listener {{ Listen ":25" {{ }} }}',
        f'ESMTP_Listener {{ {FILE} {SERVICE} Listen ":25" {{ }} }}',
        f'ESMTP_Listener {{ Listen ":25" {{ Peer "::1" {{ {SERVICE} {FILE} }} }} }}',
        f'Pathway "p" {{ {SERVICE} {FILE} }} ESMTP_Listener {{ Listen ":25" {{ }} }}',
        f'{SERVICE} AuthScramParameters = [ uri = "file:///p" ] ESMTP_Listener {{ Listen ":25" {{ }} }}',
        f'{SERVICE} AuthDigestMD5Parameters = [ uri = "digest:///p" ] ESMTP_Listener {{ Listen ":25" {{ }} }}',
    ],
)
def test_a_service_and_a_file_in_one_scope_are_an_error(text: str) -> None:
    [message] = problems(text)
    assert message.startswith("Auth_Service: ")
    assert "not both" in message


def test_a_uri_for_a_module_of_momentum_is_no_file() -> None:
    radius = 'AuthPlainParameters = [ uri = "radius://host" ]'
    [message] = problems(f'{SERVICE} {radius} ESMTP_Listener {{ Listen ":25" {{ }} }}')
    assert "not offered" in message
    assert parse_config(f'{SERVICE} ESMTP_Listener {{ {radius} Listen ":25" {{ }} }}').base.auth_service is not None


@pytest.mark.parametrize(
    ("outer", "inner", "has_service"), [(SERVICE, FILE, False), (FILE, SERVICE, True), ("", SERVICE, True)]
)
def test_the_nearest_scope_decides_between_a_service_and_files(outer: str, inner: str, has_service: bool) -> None:
    config = parse_config(f'{outer} ESMTP_Listener {{ Listen ":25" {{ {inner} }} Listen ":26" {{ }} }}')
    settings = config.resolve(config.listens[0], None)
    assert (settings.auth_service is not None, settings.authplainparameters is None) == (has_service, has_service)
    other = config.resolve(config.listens[1], None)
    assert (other.auth_service is not None) == (outer == SERVICE)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("/run/auth", "expected dovecot:/path of a Unix socket"),
        ("dovecot:", "expected dovecot:/path of a Unix socket"),
        ("cyrus:/run/auth", "expected dovecot:/path of a Unix socket"),
        ("dovecot:/" + "x" * 107, "at most 107 octets"),
    ],
)
def test_a_service_has_the_path_of_a_socket(value: str, found: str) -> None:
    [message] = problems(f'Auth_Service = "{value}" ESMTP_Listener {{ Listen ":25" {{ }} }}')
    assert found in message
