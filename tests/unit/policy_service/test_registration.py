"""The registration of a policy client."""

from typing import Any

import pytest

from triosmtp.policy_service.json_rpc import ErrorCode, ProtocolError
from triosmtp.policy_service.registration import Patterns, read_registration


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "name: expected a string"),
        ({"name": ""}, "name: expected 1 to 64"),
        ({"name": "a b"}, "name: expected"),
        ({"name": "a", "role": "boss"}, "role: expected one of observer, decider"),
        ({"name": "a", "role": "decider", "phases": ["mailfrom"]}, "group: a decider needs one"),
        ({"name": "a", "role": "decider", "group": "g"}, "phases: a decider needs one"),
        ({"name": "a", "role": "decider", "group": "g", "phases": ["mail"]}, "there is no phase 'mail'"),
        ({"name": "a", "phases": "mailfrom"}, "phases: expected a list"),
        ({"name": "a", "variables": [1]}, "variables: expected a list"),
        ({"name": "a", "variables": ["x"] * 257}, "variables: expected a list"),
        ({"name": "a", "peers": ["10.0.0.0/99"]}, "peers: '10.0.0.0/99' is not"),
        ({"name": "a", "notifications": ["session.born"]}, "names none"),
        ({"name": "a", "mode": "watch"}, "mode: expected one of enforce, shadow"),
        ({"name": "a", "changed_only": 1}, "changed_only: expected true or false"),
    ],
)
def test_a_registration_that_is_wrong_names_the_field(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ProtocolError, match=said) as raised:
        read_registration(params)
    assert raised.value.code == ErrorCode.INVALID_PARAMS


def test_a_registration_says_what_is_wanted() -> None:
    found = read_registration(
        {"name": "bar", "group": "fraud", "role": "decider", "phases": ["mailfrom"], "variables": ["tls*"],
         "peers": ["10.0.0.0/8", "2001:db8::/32"], "listeners": [":25"], "notifications": ["session.*"]}
    )  # fmt: skip
    assert found.decides
    assert found.variables.select({"tls": "on", "tls_cipher": "X", "auth_user": "a"}) == {
        "tls": "on",
        "tls_cipher": "X",
    }
    assert "session.tls" in found.notifications
    assert "session.phase" not in found.notifications  # only if it is named in full
    assert found.wants_session("10.1.2.3:99", ":25")
    assert found.wants_session("[2001:db8::1]:99", ":25")
    assert not found.wants_session("192.0.2.1:99", ":25")
    assert not found.wants_session("10.1.2.3:99", ":465")
    assert not found.wants_session("unix", ":25")
    assert "session.phase" in read_registration({"name": "a", "notifications": ["session.phase"]}).notifications


def test_patterns_remember_in_bounded_memory() -> None:
    patterns = Patterns(("tls*",))
    for number in range(5000):
        assert f"tls_{number}" in patterns
    assert len(patterns._known) == 1000
