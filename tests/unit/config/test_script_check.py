"""The scopes scriptlet and script, and lua in Policy."""

import pytest

from triosmtp.config import parse_config
from triosmtp.errors import ConfigError

LISTEN = 'ESMTP_Listener { Listen "127.0.0.1:2525" { } } '
SCRIPT = 'scriptlet "scriptlet" { script "one" { source = "policy.one" } } '


def errors(text: str) -> str:
    with pytest.raises(ConfigError) as failed:
        parse_config(LISTEN + text)
    return str(failed.value)


def test_scripts_are_known_in_their_order_and_stanzas_merge() -> None:
    config = parse_config(
        f"""{LISTEN} alerting {{}}
        scriptlet "scriptlet" {{
          script "boot" {{ source = "msys.boot" }}
          script "b" {{ source = "policy/b" }}
          Script_Path = ( "/etc/scripts" )
        }}
        Scriptlet "scriptlet" {{ script "a" {{ source = "/opt/a.lua" }} script "b" {{ source = "policy.c" }} }}"""
    )
    scripts = config.scripts
    assert scripts is not None
    assert [(each.name, each.source) for each in scripts.scripts] == [("b", "policy.c"), ("a", "/opt/a.lua")]
    assert [str(each) for each in scripts.settings.script_path] == ["/etc/scripts"]
    assert scripts.settings.script_max_instructions == 20_000_000
    assert config.warnings == ()
    assert scripts.scripts[1].place.position.line == 7


@pytest.mark.parametrize(
    "text", ["", 'scriptlet "scriptlet" { }', "scriptlet scriptlet { script a { source = msys/x } }"]
)
def test_without_a_script_of_ones_own_there_are_none(text: str) -> None:
    assert parse_config(LISTEN + text).scripts is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{SCRIPT} scriptlet "other" {{ }}', 'there is one, with the name "scriptlet"; found "other"'),
        ("scriptlet { }", 'expected an instance: scriptlet "scriptlet" { … }'),
        ("scriptlet scriptlet { script a { } }", 'script "a" needs a source'),
        ("scriptlet scriptlet { script a { source = '' } }", "expected the name of a Lua module"),
        ("scriptlet scriptlet { script { source = a } }", "expected an instance"),
        ("scriptlet scriptlet { script a { sources = a } }", "unknown option sources; did you mean Source?"),
        ("scriptlet scriptlet { Script_Pth = ( a ) }", "did you mean Script_Path?"),
        ("script a { source = b }", "script is not valid in the global scope"),
        ("source = b", "Source is not valid in the global scope"),
        ('Policy = ( "lua" )', '"lua" stands for the scripts of a scriptlet stanza, and there is none'),
        ('Policy = ( "lua:x" )', "expected python:package.module:Name"),
    ],
)
def test_what_is_wrong_is_an_error_at_its_place(text: str, message: str) -> None:
    assert message in errors(text)


def test_policy_may_say_where_the_scripts_are_asked() -> None:
    config = parse_config(f'{LISTEN} {SCRIPT} Policy = ( "python:a:B" "lua" )')
    assert config.base.policy == ("python:a:B", "lua")


def test_an_error_in_the_stanza_hides_that_there_is_no_script() -> None:
    text = errors('scriptlet "scriptlet" { script "a" { sources = 6 } } Policy = ( "lua" )')
    assert "there is none" not in text
