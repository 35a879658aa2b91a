"""``triosmtp check`` loads the scripts, and says what would fail, with file and line."""

import sys
from pathlib import Path

import pytest
from lua_site import configuration

from triosmtp.commands.check_command import check_config
from triosmtp.config import load_config
from triosmtp.errors import Severity
from triosmtp.testing import open_memory_server


def problems(folder: Path, script: str | None, **texts: str) -> list[str]:
    if script is not None:
        (folder / "one.lua").write_text(script)
    path = folder / "ecelerity.conf"
    path.write_text(configuration({"one": "one"}, **texts))
    found = check_config(load_config(path))
    return [
        f"{each.severity}: {each.message}"
        for each in found
        if any(word in each.message for word in ("ript", "odule", "never called"))
    ]


GOOD = "local mod = {} function mod:validate_mailfrom() return 0 end msys.registerModule('one', mod)"


def test_a_good_script_has_no_problem(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("script", "severity", "message"),
    [
        (None, "error", "script one: module 'one' not found:"),
        ("\n\nx = = 1", "error", "one.lua:3: unexpected symbol near '='"),
        ("\nlocal x = 1 & {}", "error", "one.lua:2: attempt to perform bitwise arithmetic on a table value"),
        ("require('msys.nothing')", "error", "module 'msys.nothing' not found"),
        ("require(('a.'):rep(5000) .. 'b')", "error", "it is not the name of a module"),
        ("require('../../etc/passwd')", "error", "it is not the name of a module"),
        (GOOD.replace("'one'", "'two'"), "warning", 'the name of the stanza is "one"'),
        ("msys.registerModule('one', {})", "warning", "no usable methods found for module one in registerModule call"),
        (
            GOOD.replace("return 0", "x()") + " function mod:validate_set_binding() end",
            "warning",
            "is never called here",
        ),
        (
            GOOD.replace("mailfrom", "data_spool") + " function mod:core_log_delivery() end",
            "warning",
            "core_log_delivery",
        ),
        ("require('msys.db') " + GOOD, "warning", "triosmtp does not have the module msys.db of Momentum"),
    ],
)
def test_what_would_fail_is_told(tmp_path: Path, script: str | None, severity: str, message: str) -> None:
    (found,) = problems(tmp_path, script)
    assert found.startswith(severity)
    assert message in found


async def test_check_reports_a_warning_once_and_a_server_logs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = GOOD.replace("'one', mod", "'other', mod")
    (warning,) = problems(tmp_path, script)
    assert "the name of the stanza" in warning
    assert "the name of the stanza" not in caplog.text  # the command prints it
    async with open_memory_server(load_config(tmp_path / "ecelerity.conf")):
        assert caplog.text.count("the name of the stanza") == 1
    assert f"{tmp_path}/ecelerity.conf:4:" in caplog.text


def test_the_problem_is_at_the_source_of_the_script(tmp_path: Path) -> None:
    (tmp_path / "one.lua").write_text("x = = 1")
    path = tmp_path / "ecelerity.conf"
    path.write_text(configuration({"one": "one"}))
    (found,) = [each for each in check_config(load_config(path)) if each.severity is Severity.ERROR]
    assert found.position is not None
    assert (found.position.line, found.source.strip()) == (4, 'script "one" { source = "one" }')


def test_a_missing_extra_is_an_error_that_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith(("lupa", "triosmtp.lua"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lupa", None)
    monkeypatch.setitem(sys.modules, "lupa.luajit21", None)
    assert problems(tmp_path, GOOD) == ['error: a script needs lupa: pip install "triosmtp[lua]"']


def test_nothing_is_imported_without_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith(("lupa", "triosmtp.lua"))]:
        monkeypatch.delitem(sys.modules, name)
    path = tmp_path / "ecelerity.conf"
    path.write_text(configuration({"boot": "msys.boot"}))
    check_config(load_config(path))
    assert not [each for each in sys.modules if each.startswith(("lupa", "triosmtp.lua"))]


def test_modules_are_looked_for_in_the_folders_of_script_path(tmp_path: Path) -> None:
    folder = tmp_path / "scripts" / "policy"
    folder.mkdir(parents=True)
    (folder / "helper.lua").write_text("return { code = 550 }")
    more = f'scriptlet "scriptlet" {{ Script_Path = ( "{tmp_path}/scripts" ) }}'
    assert (
        problems(tmp_path, "local helper = require('policy.helper') assert(helper.code == 550) " + GOOD, more=more)
        == []
    )


def test_a_file_may_begin_with_the_line_of_an_interpreter(tmp_path: Path) -> None:
    assert problems(tmp_path, "\ufeff#!/usr/bin/lua\n" + GOOD) == []


def test_every_script_that_would_fail_is_told(tmp_path: Path) -> None:
    (tmp_path / "two.lua").write_text(GOOD.replace("'one'", "'two'"))
    (tmp_path / "three.lua").write_text("\ny = = 2")
    (tmp_path / "one.lua").write_text("x = = 1")
    path = tmp_path / "ecelerity.conf"
    path.write_text(configuration({"one": "one", "two": "two", "three": "three", "four": "four"}))
    found = [each.message for each in check_config(load_config(path)) if each.severity is Severity.ERROR]
    assert [each.split(":")[0] for each in found] == ["script one", "script three", "script four"]
    assert "one.lua:1:" in found[0]
    assert "three.lua:2:" in found[1]
