"""The configuration language, sentence by sentence: statements, values, comments, merging."""

from pathlib import Path

import pytest

from triosmtp.config import Settings, load_config, parse_config
from triosmtp.errors import ConfigError


def settings(text: str) -> Settings:
    """What is in force for Listen ":25" after ``text`` at global scope."""
    config = parse_config(text + '\nESMTP_Listener { Listen ":25" { } }')
    return config.resolve(config.listens[0], None)


STANZA = """
ESMTP_Listener {
  Listen ":25" {
    TLS_Certificate = "/path/to/cert.pem"
    TLS_Key = "/path/to/key.pem"
    TLS_Client_CA = "/path/to/clientca.bundle"
    TLS_Ciphers = "DEFAULT"
    TLS_Verify_Mode = "require"
    SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  }
}
"""


def test_the_stanza_runs_as_it_stands() -> None:
    config = parse_config(STANZA)
    [warning] = config.warnings
    assert warning.message.startswith("TLS_Verify_Mode: require refuses no client that stays in plaintext")
    (listen,) = config.listens
    found = config.resolve(listen, None)
    assert found.tls_certificate == (Path("/path/to/cert.pem"),)
    assert found.tls_key == (Path("/path/to/key.pem"),)
    assert found.tls_client_ca == Path("/path/to/clientca.bundle")
    assert found.tls_ciphers == "DEFAULT"
    assert found.tls_verify_mode == "require"
    assert found.smtp_extensions == ("ENHANCEDSTATUSCODES", "STARTTLS")
    assert found.offers_starttls
    assert str(found.origins["tls_key"]) == "<string>:5:15"
    assert "idle_time" not in found.origins


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
    assert settings(text).idle_time == 42.0


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
    assert settings(text).idle_time == 2.0


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
    assert settings(f"Relay_Domains = {text}").relay_domains == expected


SQL = 'ds_core { cache "x" = { query = "select a\n  from \\"b\\"\r\n where c = ?" size = "9" } }'
MODULES = (
    SQL,
    "scriptlet 'a' { script = 'one\ntwo # no comment\n' }",
    'Domain yahoo.com { Bounce_Pattern = "a\n\nb" }',
    "Domain *.example.org { }",
    "Binding_Group a { Binding b { } }",
    "Routes ( 'a' b )",
    "Routes [ x = ( y z ) ]",
)


@pytest.mark.parametrize("text", MODULES)
def test_what_momentum_reads_is_read(text: str) -> None:
    config = parse_config(f'{text} Idle_Time = 42 ESMTP_Listener {{ Listen ":25" {{ }} }}')
    assert config.resolve(config.listens[0], None).idle_time == 42.0
    (told,) = config.warnings
    assert told.position is not None
    assert (told.position.line, told.position.column) == (1, 1)


def test_a_line_break_in_a_string_counts_as_a_line() -> None:
    config = parse_config('x { y = "a\nb\n" }\nRetry_Interval = 1 ESMTP_Listener { Listen ":25" { } }')
    assert [problem.position and problem.position.line for problem in config.warnings] == [1, 4]


def test_an_equals_sign_may_be_left_out_before_a_list_or_a_dictionary() -> None:
    found = settings('AuthDigestMD5Parameters [ uri = "digest:///d" ] Relay_Domains ( a.example )\nContext\n[ a = b ]')
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


def test_the_pathway_default_need_not_stand_in_the_file() -> None:
    assert settings("Pathway = default").pathway == "default"
    assert settings("Pathway = default Pathway default { Idle_Time = 7 }").idle_time == 7.0


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
    assert settings(f"Context = {text}").context == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (r'"a \"b\" c"', 'a "b" c'),
        (r'"a \\ b"', "a \\ b"),
        (r'"\\\""', '\\"'),
        (r'"\d+\."', r"\d+\."),
        (r"'a \ b'", "a \\ b"),
        ("'\"'", '"'),
        ('"it\'s # = { } [ ] ( ) /* */"', "it's # = { } [ ] ( ) /* */"),
        ('""', ""),
        ("a/b/c", "a/b/c"),
        ("a,b;c:d", "a,b;c:d"),
        ("a/* comment */", "a"),
        ("Grüße", "Grüße"),
    ],
)
def test_strings_and_words(written: str, expected: str) -> None:
    wrapped = written if not written.startswith("a,") else f'"{written}"'
    assert settings(f"Context = [ k = {wrapped} ]").context == {"k": expected}


def test_a_bare_word_outside_a_list_may_hold_a_comma() -> None:
    assert settings("TLS_Ciphers = AES128,AES256").tls_ciphers == "AES128,AES256"
    assert settings("TLS_Ciphers = ,AES256,").tls_ciphers == ",AES256,"


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *[(word, True) for word in ("true", "on", "enabled", "yes", "1", '"TRUE"', "'On'", "Yes")],
        *[(word, False) for word in ("false", "off", "disabled", "no", "0", '"no"', "OFF")],
    ],
)
def test_booleans(word: str, value: bool) -> None:
    assert settings(f"Require_EHLO = {word}").require_ehlo is value


def test_a_repeated_scope_merges_and_the_later_option_stands() -> None:
    config = parse_config(
        """
        ESMTP_Listener { Listen ":25" { Idle_Time = 1  Max_Message_Size = 7 } }
        esmtp_listener { Max_Recipients_Per_Message = 3  listen ":25" { Idle_Time = 2 } }
        """
    )
    (listen,) = config.listens
    found = config.resolve(listen, None)
    assert (found.idle_time, found.max_message_size, found.max_recipients_per_message) == (2.0, 7, 3)
    assert found.origins["idle_time"].line == 3


def test_listeners_of_different_instances_do_not_merge() -> None:
    config = parse_config(
        """
        ESMTP_Listener "a" { Idle_Time = 1 Listen ":25" { } }
        ESMTP_Listener "b" { Listen ":26" { } }
        """
    )
    assert [config.resolve(listen, None).idle_time for listen in config.listens] == [1.0, 300.0]


@pytest.mark.parametrize("text", ["Enable = false Listen ':25' { }", "Listen ':25' { Enable = off }"])
def test_enable_false_leaves_the_socket_unbound(text: str) -> None:
    config = parse_config(f'ESMTP_Listener "on" {{ Listen ":26" {{ }} }} ESMTP_Listener "off" {{ {text} }}')
    assert [listen.name for listen in config.listens] == [":26"]


def test_listens_stand_in_the_order_of_the_file() -> None:
    config = parse_config('ESMTP_Listener { Listen ":3" { } Listen ":1" { } Listen ":2" { } }')
    assert [listen.name for listen in config.listens] == [":3", ":1", ":2"]


def test_a_file_of_another_system_with_latin_1_in_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "e.conf"
    path.write_bytes(b"\xef\xbb\xbf# gr\xfc\xdfe\r\nESMTP_Listener {\r\n  Listen ':25' {\r\n  }\r\n}\r\n")
    assert load_config(path).listens[0].position.line == 3
    path.write_bytes(b"ESMTP_Listener { Listen ':25' { Context = [ a = 'gr\xfc' ] } }")
    with pytest.raises(ConfigError, match="1:49: error: this string holds the byte 0xFC, which is not UTF-8"):
        load_config(path)
