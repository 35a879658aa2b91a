"""The types of options of the scope Security: capabilities, users and groups."""

import pytest

from triosmtp.config import OPTIONS, parse_config
from triosmtp.errors import ConfigError

LISTENER = 'ESMTP_Listener { Listen ":25" { } }'


@pytest.mark.parametrize(
    ("text", "kept", "warned"),
    [
        ('"cap_net_bind_service+ep"', {"cap_net_bind_service"}, 0),
        ('"CAP_NET_BIND_SERVICE=EIP"', {"cap_net_bind_service"}, 0),
        ('"cap_net_admin,cap_net_bind_service+ep cap_net_raw+ep"', {"cap_net_bind_service"}, 2),
        ('"cap_net_bind_service+p"', set(), 0),
        ("none", set(), 0),
        ('""', set(), 0),
    ],
)
def test_capabilities(text: str, kept: set[str], warned: int) -> None:
    config = parse_config(f"Security {{ User = mail Group = 8 Capabilities = {text} }} {LISTENER}")
    security = config.security
    assert security is not None
    assert (security.user, security.group) == ("mail", "8")
    assert security.capabilities == kept
    assert len(config.warnings) == warned
    assert all("has no use for cap_net_" in warning.message for warning in config.warnings)
    written = OPTIONS["capabilities"].write(security.capabilities)
    again = parse_config(f"Security {{ Capabilities = {written} }} {LISTENER}").security
    assert again is not None
    assert again.capabilities == kept


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"cap_net_bind_servise+ep"', 'no capability "cap_net_bind_servise"; did you mean cap_net_bind_service'),
        ('"all"', 'expected "cap_net_bind_service+ep", or none, found "all"'),
        ("( a b )", "found a list"),
    ],
)
def test_invalid_capabilities_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"Security {{ Capabilities = {text} }} {LISTENER}")
    assert words in str(caught.value)


def test_its_options_are_valid_in_it_alone() -> None:
    with pytest.raises(ConfigError, match="User is not valid in the global scope; it is in: Security"):
        parse_config(f"User = mail {LISTENER}")
    assert parse_config(LISTENER).security is None


@pytest.mark.parametrize("option", ["User", "Group"])
@pytest.mark.parametrize(
    "text", ["4294967295", "4294967296", "9" * 5000, "-1", "+5", "-x", '""', "0" * 4 + "4294967295"]
)
def test_invalid_accounts_are_refused(option: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"Security {{\n  {option} = {text}\n}}\n{LISTENER}")
    assert f"2:{len(option) + 6}: error: {option}: expected a name, or a number from 0 to 4294967294, found" in str(
        caught.value
    )


@pytest.mark.parametrize("text", ["4294967294", "0000000000000065534", "nobody", "www-data", "12ab", "\u0663"])
def test_names_and_numbers_are_accounts(text: str) -> None:
    security = parse_config(f"Security {{ User = {text} Group = {text} }} {LISTENER}").security
    assert security is not None
    assert (security.user, security.group) == (text, text)
    assert OPTIONS["user"].write(text) == f'"{text}"'
