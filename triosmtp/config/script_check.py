"""The checks of scriptlet and script scopes, and of the word lua in Policy."""

from typing import Final

from triosmtp.config.option import SCRIPT, SCRIPTLET
from triosmtp.config.scope import Block
from triosmtp.config.source import Problems

__all__ = ["check_scripts"]

_WITHOUT: Final = 'Policy: "lua" stands for the scripts of a scriptlet stanza, and there is none: '
_EXAMPLE: Final = 'scriptlet "scriptlet" { script "name" { source = "policy.name" } }'


def check_scripts(root: Block, problems: Problems) -> None:
    """Report a Policy with lua and no scripts, and scripts without a source."""
    stanzas = root.of_kind(SCRIPTLET)
    scripts = [script for stanza in stanzas for script in stanza.of_kind(SCRIPT)]
    for script in scripts:
        source = script.assignments.get("source")
        if script.place is not None and source is None and script.unknown.isdisjoint({"*", "source"}):
            problems.error(script.place, f'{script} needs a source: source = "policy.name"')
        elif source is not None and not source.value:
            problems.error(source.place, "source: expected the name of a Lua module, found an empty string")
    unread = {"*", SCRIPTLET, SCRIPT}
    if scripts or not root.unknown.isdisjoint(unread) or any(not each.unknown.isdisjoint(unread) for each in stanzas):
        return
    for block in _blocks(root):
        assignment = block.assignments.get("policy")
        if assignment is not None and isinstance(assignment.value, tuple) and "lua" in assignment.value:
            problems.error(assignment.place, f"{_WITHOUT}{_EXAMPLE}")


def _blocks(block: Block) -> list[Block]:
    return [block, *(found for child in block.children.values() for found in _blocks(child))]
