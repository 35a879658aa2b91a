"""Questions about a configuration, in the words of Momentum's console: ``ESMTP_Listener Listen :25 Idle_Time``."""

from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

from triosmtp.config.configuration import Config, address_key
from triosmtp.config.option import DOMAIN_SCOPE, EVERYWHERE, GLOBAL, PEER, Option
from triosmtp.config.options import OPTIONS, Settings
from triosmtp.config.resolution import settings_of
from triosmtp.config.scope import SCOPES, Block, ScopeRule, domain_scope_key
from triosmtp.config.source import Place
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.types.listen_address import parse_address
from triosmtp.config.types.option_type import Network, parse_network, quote
from triosmtp.config.types.server_name import parse_server_name
from triosmtp.errors import QueryError

__all__ = ["Query", "evaluate", "find_query", "get", "options_of_connections", "show"]


@frozen(slots=True)
class Query:
    """The meaning of the words of a query.

    ``block`` is the scope; ``peer`` restricts it to connections from there.  ``option`` None means all.
    """

    block: Block
    peer: Network | None = None
    option: Option | None = None

    @property
    def own_block(self) -> Block:
        """The scope itself, for questions without fallback.

        :raises QueryError: if the configuration has no such Peer.
        """
        if self.peer is None:
            return self.block
        return _child(self.block, SCOPES[PEER.lower()], self.peer, str(self.peer))

    @property
    def options(self) -> tuple[Option, ...]:
        """The option that is asked for, or all that may stand in the scope."""
        if self.option is not None:
            return (self.option,)
        scope = self.block.scope if self.peer is None else PEER
        return tuple(option for option in OPTIONS.values() if scope in option.scopes)

    def check(self) -> None:
        """Refuse an option that has no value here: one that stands neither in the scope nor in one it falls back to.

        :raises QueryError: if it is one; the text says where it is valid.
        """
        scope = self.block.scope if self.peer is None else PEER
        holding = {scope, GLOBAL} if scope in EVERYWHERE else {scope}
        if self.option is not None and holding.isdisjoint(self.option.scopes):
            where = "the global scope" if scope == GLOBAL else f"a {scope}"
            valid = ", ".join(self.option.scopes)
            raise QueryError(f"{self.option.name} is not valid in {where}; it is in: {valid}")

    def settings(self, config: Config) -> Settings:
        """Return the settings for the connections of the scope."""
        return settings_of(config.resolver(self.block).chain(self.peer))


def find_query(config: Config, words: Sequence[str]) -> Query:
    """Return what ``[SCOPE…] [OPTION]`` means.

    :raises QueryError: if a word is unknown.
    """
    block, peer = config.root, None
    rest = list(words)
    while rest:
        word = rest.pop(0)
        rule = SCOPES.get(word.lower())
        if rule is None or (not rest and rule.instance and word.lower() in OPTIONS):
            option = find_option(word)
            if rest:
                raise QueryError(f"{option.name} is an option: it stands last")
            return Query(block, peer, option)
        if rule.instance and not rest:
            raise QueryError(f"expected an instance: {rule.name} {rule.instance}")
        if peer is not None or block.scope not in rule.parents:
            raise QueryError(f"{rule.name} does not stand in {'a Peer' if peer is not None else block.kind}")
        instance = rest.pop(0) if rest and _is_instance(rule, rest) else None
        if rule.name == PEER and instance is not None:
            try:
                peer = parse_network(instance)[0]
            except ValueError as error:
                raise QueryError(str(error)) from error
        else:
            block = _child(block, rule, instance, instance)
    return Query(block, peer)


def find_option(name: str) -> Option:
    """Return the option of that name, in any case.

    :raises QueryError: if there is none.
    """
    option = OPTIONS.get(name.lower())
    if option is None:
        raise QueryError(_unknown(name))
    return option


def options_of_connections() -> tuple[Option, ...]:
    """Return the options that hold for connections of SMTP: not those of logs, consoles or policy clients."""
    return tuple(option for option in OPTIONS.values() if not set(EVERYWHERE).isdisjoint(option.scopes))


def evaluate(settings: Settings, options: Iterable[Option]) -> list[str]:
    """Return ``Name = value  # FILE:LINE`` (or ``# default``) for each of ``options``."""
    return [_line(each, getattr(settings, each.field), settings.places.get(each.field)) for each in options]


def get(block: Block, option: Option) -> str | None:
    """Return the line of an option that is set in this scope; None if it is not set."""
    assignment = block.assignments.get(option.field)
    return None if assignment is None else _line(option, assignment.value, assignment.place)


def show(block: Block, *, recurse: bool = False) -> Iterator[str]:
    """Return the lines of the options that are set in a scope; with ``recurse`` in its sub-scopes too, as in a file."""
    for field, assignment in block.assignments.items():
        yield _line(OPTIONS[field], assignment.value, assignment.place)
    if recurse:
        for child in block.children.values():
            yield f"{child} {{"
            for line in show(child, recurse=True):
                yield f"  {line}"
            yield "}"


def _line(option: Option, value: object, place: Place | None) -> str:
    if place is None:
        return f"{option.name} = {option.write_default()}  # default"
    position = place.position
    return f"{option.name} = {option.write(value)}  # {position.file}:{position.line}"


def _is_instance(rule: ScopeRule, rest: list[str]) -> bool:
    """Return whether the next word is an instance; the name of a scope or option is none."""
    return bool(rule.instance) or (rest[0].lower() not in SCOPES and rest[0].lower() not in OPTIONS)


def _child(block: Block, rule: ScopeRule, key: object, shown: str | None) -> Block:
    children = block.of_kind(rule.name)
    for child in children:
        if child.key == key:
            return child
    if shown is not None:
        for child in children:
            if _is_same(child, shown):
                return child
    if shown is None and len(children) == 1:
        return children[0]
    here = ", ".join(quote(child.instance) for child in children if child.instance is not None)
    name = rule.name if shown is None else f"{rule.name} {quote(shown)}"
    within = "" if block.parent is None else f" in {block}"
    meant = "" if rule.instance or shown is None else suggest(nearest(shown, [each.name for each in SCOPES.values()]))
    raise QueryError(f"there is no {name}{within}" + (f"; there is: {here}" if here else meant))


def _is_same(block: Block, text: str) -> bool:
    """Return whether ``text`` is another way to write the instance of a Listen, a Server_Name or a Domain."""
    try:
        if block.kind == DOMAIN_SCOPE:
            return block.key == domain_scope_key(text)
        if block.address is not None:
            return address_key(block.address) == address_key(parse_address(text))
        return block.server_name is not None and block.server_name == parse_server_name(text)
    except ValueError:
        return False


def _unknown(word: str) -> str:
    known = [rule.name for rule in SCOPES.values()] + [option.name for option in OPTIONS.values()]
    return f"unknown scope or option {word}{suggest(nearest(word, known))}"
