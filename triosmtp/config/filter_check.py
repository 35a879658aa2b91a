"""The checks of Filter scopes: each has an address, and each name in a Policy has a scope."""

from collections.abc import Iterator

from triosmtp.config.option import FILTER
from triosmtp.config.options import OPTIONS
from triosmtp.config.scope import Block
from triosmtp.config.source import Place, Problems
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.types.option_type import quote
from triosmtp.config.types.policy_grammar import ADDRESS_SCHEMES, forms_of
from triosmtp.config.types.rspamd_address import parse_rspamd_address

__all__ = ["check_filters"]


def check_filters(root: Block, problems: Problems) -> None:
    """Report Filter scopes without Connect_To, names without a scope, and scopes that no Policy names."""
    filters = {block.instance or "": block for block in root.of_kind(FILTER)}
    for block in filters.values():
        if "connect_to" not in block.assignments and block.unknown.isdisjoint({"*", "connect_to"}):
            assert block.place is not None, "only the global scope has no place"
            problems.error(block.place, f"{block} needs a Connect_To: {forms_of(ADDRESS_SCHEMES)}")
        _check_kind(block, problems)
    if not root.unknown.isdisjoint({"*", "filter"}):
        return
    named = set()
    unread = False
    for block in _blocks(root):
        unread = unread or not block.unknown.isdisjoint({"*", "policy"})
        for name, place in _names(block):
            named.add(name)
            if name not in filters:
                unread = True  # it may be the name of one that seems not to be used
                problems.error(place, f"Policy: there is no Filter {quote(name)}{suggest(nearest(name, filters))}")
    for name, block in filters.items():
        if name not in named and block.place is not None and not unread:
            problems.warn(block.place, f'{block} is not used: no Policy has "filter:{name}"')


def _check_kind(block: Block, problems: Problems) -> None:
    """Report options that this kind of filter does not have."""
    connect_to, phases = block.assignments.get("connect_to"), block.assignments.get("phases")
    if connect_to is None:
        return
    if phases is not None and str(connect_to.value).startswith("milter:"):
        problems.error(phases.place, "Phases: a milter says itself which steps it wants")
    if not str(connect_to.value).startswith("rspamd:"):
        for field in ("password_file", "settings_id"):
            if field in block.assignments:
                name = OPTIONS[field].name
                problems.warn(block.assignments[field].place, f"{name} has no effect in {block}: it is for rspamd:")
        return
    password = block.assignments.get("password_file")
    if phases is not None and phases.value != ("data_spool",):
        problems.error(phases.place, f"Phases: {block} is rspamd, which is asked about whole messages: data_spool")
    if password is not None and parse_rspamd_address(str(connect_to.value)).is_readable:
        problems.error(password.place, f"Password_File: others could read the password on its way: {block} needs https")


def _names(block: Block) -> Iterator[tuple[str, Place]]:
    """Yield the name and the place of each ``filter:name`` in the Policy of a block."""
    assignment = block.assignments.get("policy")
    if assignment is not None and isinstance(assignment.value, tuple):
        for policy in assignment.value:
            scheme, _, name = policy.partition(":")
            if scheme == "filter":
                yield name, assignment.place


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for child in block.children.values():
        yield from _blocks(child)
