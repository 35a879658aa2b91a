"""The table of all functions of scripts with their state, for the documentation."""

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from attrs import frozen

from triosmtp.lua.api import TABLES
from triosmtp.lua.host import HostFunction

__all__ = ["Entry", "TableState", "entries", "markdown"]

TableState: TypeAlias = Literal["must", "should", "later", "out"]

_LATER: Final = ("opendkim.", "msys.validate.opendkim.")
_MEANING: Final = {
    "must": "here; nearly all scripts need it",
    "should": "here",
    "later": "loads with a warning; a call is a script error until triosmtp has it",
    "out": "loads with a warning; a call is a script error",
}
_GROUPS: Final = (
    ("vctx:", "`vctx`"), ("vctx.", "`vctx`"), ("ac:", "`ac`"), ("ac.", "`ac`"), ("mc.", "`mc`"), ("msg:", "`msg`"),
    ("msg.", "`msg`"), ("mime_part", "parts of `msg:mime(true)`"), ("msys.core.", "`msys.core`"),
    ("msys.pcre.", "`msys.pcre`"), ("msys.cidr.", "`msys.cidr`"), ("msys.audit_series.", "`msys.audit_series`"),
    ("msys.audit.", "`msys.audit`"), ("msys.gauge_cache.", "`msys.gauge_cache`"), ("counter", "`counter`"),
    ("json.", "`json`"), ("base64.", "`base64`, `qp`, `idn`"), ("qp.", "`base64`, `qp`, `idn`"),
    ("idn.", "`base64`, `qp`, `idn`"), ("thread.", "`thread`"), ("mutex", "`thread`"),
    ("http", "`http.client`"), ("msys.http.", "`http.client`"),
    ("control_call", "`msys.registerControl`, `ac_auth`"), ("response", "`msys.registerControl`, `ac_auth`"),
)  # fmt: skip
_WRITTEN_IN_LUA: Final[dict[str, TableState]] = {"msys.dumper.Dumper": "must", "msys.runInPool": "should"}


@frozen(slots=True, order=True)
class Entry:
    """One row: the group, the name, and the state of a function."""

    group: str
    name: str
    state: TableState


def _group(name: str) -> str:
    return next((title for start, title in _GROUPS if name.startswith(start)), "`msys`")


def _state(function: HostFunction) -> TableState:
    if function.state == "out" and function.name.startswith(_LATER):
        return "later"
    return function.state


def entries() -> list[Entry]:
    """Return a row for each function, in the order of their groups and names."""
    found = {
        Entry(_group(each.name), each.name, _state(each))
        for table in TABLES
        for each in table.functions
        if not each.name.rpartition(".")[2].startswith("_")
    }
    found |= {Entry("`msys`", name, state) for name, state in _WRITTEN_IN_LUA.items()}
    return sorted(found)


def markdown() -> str:
    """Return the table in Markdown: for each group, the names by their state."""
    rows = entries()
    groups = sorted({each.group for each in rows})
    return "\n".join([
        "| group | here, must | here, should | not here |",
        "|---|---|---|---|",
        *(_row(group, [each for each in rows if each.group == group]) for group in groups),
        "",
        *(f"- **{state}**: {text}." for state, text in _MEANING.items()),
    ])  # fmt: skip


def _row(group: str, rows: list[Entry]) -> str:
    cells = (
        _names(each for each in rows if each.state == "must"),
        _names(each for each in rows if each.state == "should"),
        _names(each for each in rows if each.state in {"later", "out"}),
    )
    return f"| {group} | {' | '.join(cells)} |"


def _names(rows: Iterator[Entry]) -> str:
    return ", ".join(f"`{each.name}`" + (" (later)" if each.state == "later" else "") for each in rows)
