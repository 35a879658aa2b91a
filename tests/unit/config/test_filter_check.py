"""The scope Filter, and the addresses of filters."""

import pytest

from triosmtp.config import parse_config
from triosmtp.errors import ConfigError

LISTENER = 'ESMTP_Listener { Listen ":25" { } }'


def problems(text: str) -> list[str]:
    try:
        return [problem.message for problem in parse_config(f"{text} {LISTENER}").warnings]
    except ConfigError as error:
        return [problem.message for problem in error.problems]


def test_a_filter_has_its_options_and_those_of_no_other_scope() -> None:
    config = parse_config(f"""
        Policy_Timeout = 9 Policy_Fallback = "reject"
        Policy = ( "filter:a" "filter:b" )
        Filter "a" {{ Connect_To = "policyd:inet:localhost:10031" Phases = ( data RCPTTO data ) Policy_Timeout = 2 }}
        Filter "b" {{ Connect_To = "policyd:inet:[::1]:1" Policy_Fallback_Phases = [ rcptto = "continue" ] }}
        {LISTENER}
    """)
    a, b = config.filters["a"], config.filters["b"]
    assert (a.connect_to, a.phases, a.timeout, a.fallback) == (
        "policyd:inet:localhost:10031",
        ("data", "rcptto"),
        2.0,
        None,
    )
    assert (b.phases, b.timeout, dict(b.fallback_phases)) == (("rcptto",), None, {"rcptto": "continue"})
    assert not config.warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('Policy = "policyd:inet:10031@localhost"', "did you mean policyd:inet:localhost:10031?"),
        ('Policy = "policyd:inet:localhost"', "expected policyd:unix:/path or policyd:inet:host:port"),
        ('Policy = "policyd:inet:localhost:0"', "expected policyd:unix:/path or policyd:inet:host:port"),
        ('Policy = "policyd:inet:localhost:65536"', "expected policyd:unix:/path or policyd:inet:host:port"),
        ('Policy = "policyd:unix:"', "expected policyd:unix:/path or policyd:inet:host:port"),
        (f'Policy = "policyd:unix:/{"x" * 107}"', "at most 107 octets"),
        ('Policy = "polcyd:unix:/x"', "did you mean policyd?"),
        ('Policy = "filter:a b"', "filter:name"),
        ('Policy = "filter:postgray" Filter "postgrey" { Connect_To = "policyd:unix:/x" }', "did you mean postgrey?"),
        ('Filter "x" { Connect_To = "policyd:unix:/x" }', 'Filter "x" is not used: no Policy has "filter:x"'),
        ('Policy = "filter:x" Filter "x" { }', 'Filter "x" needs a Connect_To'),
        ('Policy = "milter:inet:8891@localhost"', "did you mean milter:inet:localhost:8891?"),
        ('Policy = "milter:local:/x"', "expected milter:unix:/path or milter:inet:host:port, found"),
        ('Policy = "filter:x" Filter "x" { Connect_To = "rspam:unix:/x" }', "Connect_To: expected milter:unix"),
        (
            'Policy = "filter:x" Filter "x" { Connect_To = "milter:unix:/x" Phases = ( data ) }',
            "Phases: a milter says itself",
        ),
        ('Policy = "filter:x" Filter "x" { Connect_To = "policyd:unix:/x" Phases = ( starttls ) }', "Phases: expected"),
        ('Policy = "filter:x" Filter "x" { Connect_To = "policyd:unix:/x" Phases = ( ) }', "found an empty list"),
        (
            'Policy = "filter:x" Filter "x" { Connect_To = "policyd:unix:/x" Relay_Domains = ( ) }',
            "not valid in a Filter",
        ),
        ('Filter "a:b" { Connect_To = "policyd:unix:/x" }', "expected a name of letters"),
        ('Connect_To = "policyd:unix:/x"', "Connect_To is not valid in the global scope; it is in: Filter"),
    ],
)
def test_check_says_what_is_wrong_with_a_filter(text: str, message: str) -> None:
    found = problems(text)
    assert len(found) == 1, found
    assert message in found[0]


def test_a_policy_in_any_scope_names_a_filter() -> None:
    config = """
        Filter "x" { Connect_To = "policyd:unix:/x" }
        ESMTP_Listener { Listen ":25" { Peer "10.0.0.0/8" { Policy = "filter:%s" } } }
    """
    assert not parse_config(config % "x").warnings
    with pytest.raises(ConfigError, match='there is no Filter "y"'):
        parse_config(config % "y")
