"""The table of functions for the documentation."""

from triosmtp.lua.api import TABLES
from triosmtp.lua.api.function_table import entries, markdown


def test_the_table_has_every_declared_function_once() -> None:
    rows = entries()
    assert len({each.name for each in rows}) == len(rows)
    declared = {each.name for table in TABLES for each in table.functions}
    named = {each.name for each in rows}
    assert {each for each in declared - named if not each.rpartition(".")[2].startswith("_")} == set()
    text = markdown()
    assert all(f"`{each}`" in text for each in named)


def test_states_are_those_of_the_declarations() -> None:
    states = {each.name: each.state for each in entries()}
    assert [states[each] for each in ("vctx:get", "json.decode", "opendkim.*", "msys.db.*", "msys.runInPool")] == [
        "must", "should", "later", "out", "should",
    ]  # fmt: skip
