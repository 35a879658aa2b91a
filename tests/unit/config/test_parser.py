"""The parser: statements, values, lists, dictionaries, comments, and the errors of their syntax."""

import pytest
from config_text import LISTENER, config_errors, read_settings

from triosmtp.config import parse_config
from triosmtp.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("}", "1:1: error: this `}` closes nothing"),
        (
            "Idle_Time",
            "1:10: error: expected `=`, `{` or an instance name after `Idle_Time`, found the end of the file",
        ),
        ("Idle_Time =", "1:11: error: expected a value for Idle_Time after this `=`"),
        ("Idle_Time 5", "1:12: error: expected `=` before `5`, or `{` after it, found the end of the file"),
        ("= 5", "1:1: error: expected a statement (`Name = value`"),
        ("{ }", "1:1: error: expected a statement (`Name = value`"),
        ('"Idle_Time" = 5', "1:1: error: expected a statement (`Name = value`"),
        ("5 = 5", "1:1: error: expected a statement (`Name = value`"),
        ("Relay_Domains = ( a", "1:17: error: this `(` is never closed: expected `)`"),
        ("Relay_Domains = a )", "1:19: error: expected a statement after this value (one that holds white space must"),
        ("Context = [ a = b", "1:11: error: this `[` is never closed: expected `]`"),
        ("Context = [ a b ]", "1:15: error: expected `=` and a value after the key `a`, found `b`"),
        ("Context = [ a = ]", "1:17: error: expected a value for the key `a`, found `]`"),
        ("Context = [ = b ]", "1:13: error: expected `key = value` or the `]` of the dictionary of line 1, found `=`"),
        ("include", "1:8: error: expected `=`, `{` or an instance name after `include`, found the end of the file"),
        ("Idle_Time = 5m;", "1:15: error: no `;` stands after a value: leave it out"),
        ("Idle_Time = 5 m\nRetry_Interval = 3", "1:15: error: expected a statement after this value (one that holds"),
        (f"Max_Message_Size = 10 MB\n{LISTENER}", "1:23: error: expected a statement after this value (one that holds"),
        (
            "Idle_Time = 3;",
            "1:14: error: no `;` stands after a value: leave it out (a value that ends with it must be quoted)",
        ),
        ("TLS_Ciphers = DEFAULT;", "1:22: error: no `;` stands after a value"),
        ("Relay_Domains = ( a.b; c.d )", "1:22: error: no `;` stands after a value"),
        ("Context = [ a = b; ]", "1:18: error: no `;` stands after a value"),
        ("TLS_Ciphers = 'DEFAULT';", "1:24: error: expected a statement (no `;` stands between them), found `;`"),
        ("Pathway 'x' { };", "1:16: error: expected a statement (no `;` stands between them), found `;`"),
        ("Relay_Domains ( a", "1:15: error: this `(` is never closed: expected `)`"),
        ("Idle_Time =\nRelay_Domains ( a )", "1:11: error: expected a value for Idle_Time after this `=`"),
    ],
)
def test_each_error_has_its_position_and_text(text: str, line: str) -> None:
    others = f"\n{config_errors(text)}".replace(
        "\ne.conf:1:1: error: no Listen is enabled: ", "\n"
    )  # which most lack, too
    assert f"\ne.conf:{line}" in others


def test_a_value_before_a_semicolon_is_read() -> None:
    text = config_errors("Pathway = no; ESMTP_Listener { Listen ':25' { } }")
    assert "e.conf:1:13: error: no `;` stands after a value" in text
    assert 'e.conf:1:11: error: there is no Pathway "no"' in text


@pytest.mark.parametrize(
    "text",
    [
        "a { " * 100_000,
        "{" * 100_000,
        "a = " + "( " * 100_000,
        "a = " + "[ a = " * 100_000,
        "ESMTP_Listener { " * 100_000 + "}" * 100_000,
        "a" * 1_000_000,
        "a " * 300_000,
        "= " * 300_000,
        '"' * 100_000,
        '\\"\n' * 100_000,
        "x = 'a\n" * 100_000,
        '\\"\n' * 100_000 + '"x',
        "/*" * 100_000,
        "(" * 100_000 + "\n" + ")" * 100_000,
    ],
)
def test_depth_and_size_end_in_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text)


@pytest.mark.parametrize(
    "text",
    [
        "Idle_Time = 42",
        "idle_time=42",
        "IDLE_TIME\n=\n42",
        'Idle_Time = "42"',
        "Idle_Time = '42'",
        "Idle_Time = 42 # a comment\n",
        "/* Idle_Time = 1 */ Idle_Time /* here */ = /* and\nhere */ 42",
        "Idle_Time = 1 Idle_Time = 42",
        "\tIdle_Time\r\n=\r\n42\r\n",
        "# Idle_Time = 1 { ( [\nIdle_Time = 42",
        "/* does not nest /* */ Idle_Time = 42",
    ],
)
def test_one_statement_in_many_shapes(text: str) -> None:
    assert read_settings(text).idle_time == 42.0


@pytest.mark.parametrize(
    "text",
    [
        'ESMTP_Listener { Listen ":25" { } }',
        'esmtp_listener = { LISTEN ":25" = { } }',
        "ESMTP_Listener{Listen ':25'{}}",
        "ESMTP_Listener { Listen :25 { } }",
        'ESMTP_Listener "inbound" { Listen ":25" { } }',
        'ESMTP_Listener\n{\nListen\n":25"\n{\n}\n}',
    ],
)
def test_scopes_in_many_shapes(text: str) -> None:
    assert [listen.name for listen in parse_config(text).listens] == [":25"]


def test_instance_names_have_case() -> None:
    text = 'Pathway "In" { Idle_Time = 1 } Pathway "in" { Idle_Time = 2 } Pathway = "in"'
    assert read_settings(text).idle_time == 2.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('( "a.example" "b.example" )', ("a.example", "b.example")),
        ("( a.example b.example )", ("a.example", "b.example")),
        ('( "a.example", "b.example", )', ("a.example", "b.example")),
        ("(a.example,b.example)", ("a.example", "b.example")),
        ("(\n  a.example # one\n  b.example\n)", ("a.example", "b.example")),
        ('"a.example"', ("a.example",)),
        ("( )", ()),
    ],
)
def test_lists(text: str, expected: tuple[str, ...]) -> None:
    assert read_settings(f"Relay_Domains = {text}").relay_domains == expected


SQL = 'ds_core { cache "x" = { query = "select a\n  from \\"b\\"\r\n where c = ?" size = "9" } }'


MODULES = (
    SQL,
    "sieve 'a' { script = 'one\ntwo # no comment\n' }",
    'Domain yahoo.com { Bounce_Pattern = "a\n\nb" }',
    "Domain *.example.org { }",
    "Binding_Group a { Binding b { } }",
    "Routes ( 'a' b )",
    "Routes [ x = ( y z ) ]",
)


@pytest.mark.parametrize("text", MODULES)
def test_the_syntax_of_momentum_is_accepted(text: str) -> None:
    config = parse_config(f'{text} Idle_Time = 42 ESMTP_Listener {{ Listen ":25" {{ }} }}')
    assert config.resolve(config.listens[0], None).idle_time == 42.0
    (told,) = config.warnings
    assert told.position is not None
    assert (told.position.line, told.position.column) == (1, 1)


def test_an_equals_sign_may_be_left_out_before_a_list_or_a_dictionary() -> None:
    found = read_settings(
        'AuthDigestMD5Parameters [ uri = "digest:///d" ] Relay_Domains ( a.example )\nContext\n[ a = b ]'
    )
    assert found.authdigestmd5parameters is not None
    assert str(found.authdigestmd5parameters.path) == "/d"
    assert (found.relay_domains, found.context) == (("a.example",), {"a": "b"})


def test_an_instance_needs_no_quotes() -> None:
    config = parse_config(
        "Pathway partners { Idle_Time = 7 } ESMTP_Listener { Listen *:25 { Pathway = partners Peer 10.0.0.0/8 { } } "
        "Listen /run/smtp { } } Control_Listener { Listen /run/control { } }"
    )
    assert [listen.name for listen in config.listens] == ["*:25", "/run/smtp"]
    assert config.resolve(config.listens[0], None).idle_time == 7.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[ a = "b" c = d ]', {"a": "b", "c": "d"}),
        ("[a=b\nc=d]", {"a": "b", "c": "d"}),
        ("[ a = 1, b = 2 ]", {"a": "1", "b": "2"}),
        ("[ a = 1 a = 2 ]", {"a": "2"}),
        ('[ "a key" = "a value" ]', {"a key": "a value"}),
        ("[ ]", {}),
    ],
)
def test_dictionaries(text: str, expected: dict[str, str]) -> None:
    assert read_settings(f"Context = {text}").context == expected
