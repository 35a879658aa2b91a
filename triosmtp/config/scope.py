"""Scopes: the place of each in a configuration, and the tree of blocks that a configuration's statements merge into."""

from collections.abc import Callable, Hashable, Iterable, Iterator

from attrs import Factory, define, evolve, frozen

from triosmtp.config.lexer import unclosed
from triosmtp.config.momentum_options import (
    INBOUND_COUNTERPARTS,
    MOMENTUM_CONTROL_OPTIONS,
    MOMENTUM_OPTIONS,
    MOMENTUM_SCOPES,
)
from triosmtp.config.option import (
    BINDING,
    BINDING_GROUP,
    CONSUMER,
    CONTROL,
    CONTROL_LISTEN,
    CONTROL_LISTENER,
    DELIVERY,
    DOMAIN_SCOPE,
    ESMTP_LISTENER,
    FILTER,
    GLOBAL,
    LISTEN,
    LOG,
    PATHWAY_GROUP,
    PATHWAY_SCOPE,
    PEER,
    POLICY_LISTEN,
    POLICY_LISTENER,
    SCRIPT,
    SCRIPTLET,
    SECURITY,
    SERVER_NAME,
    STATUS_LISTEN,
    STATUS_LISTENER,
    Option,
)
from triosmtp.config.options import OPTIONS
from triosmtp.config.parser import Dictionary, Include, Items, Scalar, Scope, Setting, Statement, Value, parse
from triosmtp.config.source import Place, Problems, Source
from triosmtp.config.suggestion import misspelt, nearest, suggest
from triosmtp.config.types.auth_parameters import SCRIPT_SCHEME, AuthParameters, module_problem
from triosmtp.config.types.filter_address import is_filter_name
from triosmtp.config.types.listen_address import ListenAddress, TCPAddress, parse_address
from triosmtp.config.types.option_type import BadValueError, Network, parse_network, quote
from triosmtp.config.types.server_name import parse_server_name
from triosmtp.domain import name_key
from triosmtp.errors import Severity

__all__ = ["LOGS", "SCOPES", "Assignment", "Block", "IncludeError", "Reader", "ScopeRule", "build", "domain_scope_key"]


class IncludeError(Exception):
    """An include that cannot be followed; the text tells why."""


Reader = Callable[[str, Source], Iterable[Source]]
"""Return the sources that an include of this path in that source names, or raise :class:`IncludeError`."""


@frozen(slots=True)
class ScopeRule:
    """The scopes around a scope, and the form of its instance; ``instance`` is empty if it is optional."""

    name: str
    parents: tuple[str, ...]
    instance: str


SCOPES = {
    rule.name.lower(): rule
    for rule in (
        ScopeRule(PATHWAY_GROUP, (GLOBAL,), '"name"'),
        ScopeRule(PATHWAY_SCOPE, (GLOBAL, PATHWAY_GROUP), '"name"'),
        ScopeRule(ESMTP_LISTENER, (GLOBAL,), ""),
        ScopeRule(CONTROL_LISTENER, (GLOBAL,), ""),
        ScopeRule(POLICY_LISTENER, (GLOBAL,), ""),
        ScopeRule(STATUS_LISTENER, (GLOBAL,), ""),
        ScopeRule(LOG, (GLOBAL,), '"mainlog"'),
        ScopeRule(SECURITY, (GLOBAL,), ""),
        ScopeRule(LISTEN, (ESMTP_LISTENER, CONTROL_LISTENER, POLICY_LISTENER, STATUS_LISTENER), '":25"'),
        ScopeRule(PEER, (ESMTP_LISTENER, LISTEN), '"192.0.2.0/24"'),
        ScopeRule(SERVER_NAME, (LISTEN,), '"mx.example.org"'),
        ScopeRule(BINDING_GROUP, (GLOBAL,), '"name"'),
        ScopeRule(BINDING, (GLOBAL, BINDING_GROUP), '"name"'),
        ScopeRule(DOMAIN_SCOPE, (GLOBAL, BINDING, BINDING_GROUP), '"example.org"'),
        ScopeRule(FILTER, (GLOBAL,), '"name"'),
        ScopeRule(DELIVERY, (GLOBAL,), '"name"'),
        ScopeRule(CONSUMER, (GLOBAL,), '"name"'),
        ScopeRule(SCRIPTLET, (GLOBAL,), '"scriptlet"'),
        ScopeRule(SCRIPT, (SCRIPTLET,), '"name"'),
    )
}
"""The scopes that are built, by their names in lower case."""


@frozen(slots=True)
class Assignment:
    """An option's value in one block, and the place of that value in its file."""

    value: object
    place: Place


@define(eq=False, slots=True, repr=False)
class Block:
    """A scope after merging: all the statements of one name and instance."""

    kind: str
    instance: str | None = None
    place: Place | None = None
    parent: "Block | None" = None
    key: Hashable = None
    """What distinguishes blocks of one kind in one scope: the CIDR block of a Peer, else the instance."""
    network: Network | None = None
    address: ListenAddress | None = None
    server_name: str | None = None
    """The name of a Server_Name, in the form in which it is compared."""
    assignments: dict[str, Assignment] = Factory(dict)
    children: "dict[tuple[str, Hashable], Block]" = Factory(dict)
    unknown: set[str] = Factory(set)
    """What errors keep from being known, in lower case: options, names of scopes; ``*`` is anything."""

    @property
    def scope(self) -> str:
        """What may stand in it: its kind; but a Listen that is not for mail takes little of what a Listen does."""
        if self.kind != LISTEN or self.parent is None:
            return self.kind
        return _LISTENS.get(self.parent.kind, LISTEN)

    def of_kind(self, kind: str) -> "list[Block]":
        """Return the sub-scopes of that name, in the order of the file."""
        return [child for child in self.children.values() if child.kind == kind]

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        if self.kind == GLOBAL:
            return "the global scope"
        return self.kind if self.instance is None else f"{self.kind} {quote(self.instance)}"


LOGS = ("mainlog", "rejectlog", "acctlog", "stderr", "syslog")
"""The logs that there are."""

_LISTENS = {CONTROL_LISTENER: CONTROL_LISTEN, POLICY_LISTENER: POLICY_LISTEN, STATUS_LISTENER: STATUS_LISTEN}


def build(source: Source, problems: Problems, read: Reader) -> Block:
    """Return the tree of ``source`` and all it includes; the root is the global scope.

    :raises TooManyProblemsError: if there are too many errors.
    """
    builder = _Builder(problems, read)
    root = Block(GLOBAL)
    builder.statements(parse(source, problems), root)
    builder.check_schemes(scripted=bool(root.of_kind(SCRIPTLET)))
    return root


class _Builder:
    def __init__(self, problems: Problems, read: Reader) -> None:
        self._problems = problems
        self._read = read
        self._schemes: list[tuple[Place, Option, AuthParameters, Block, Assignment]] = []  # URIs that are not ours
        self._registered: set[str] = set()  # what stanzas of auth_ds name

    def statements(self, statements: Iterable[Statement], block: Block) -> None:
        for statement in statements:
            if isinstance(statement, Setting):
                self._setting(statement, block)
            elif isinstance(statement, Scope):
                self._scope(statement, block)
            elif isinstance(statement, Include):
                self._include(statement, block)
            else:
                lower = statement.name.lower()
                block.unknown.add(lower if lower in OPTIONS or lower in SCOPES else "*")

    def _include(self, include: Include, block: Block) -> None:
        if "\n" in include.path:
            block.unknown.add("*")
            self._problems.error(include.place, unclosed(include.place.character))
            return
        try:
            for source in self._read(include.path, include.place.source):
                self.statements(parse(source, self._problems), block)
        except IncludeError as error:
            block.unknown.add("*")
            self._problems.error(include.place, str(error))

    # Options

    def _setting(self, setting: Setting, block: Block) -> None:
        option = OPTIONS.get(setting.name.lower())
        if option is None or block.scope not in option.scopes:
            self._refuse_setting(option, setting, block)
            return
        if block.kind in option.idle_in:
            self._problems.warn(setting.place, f"{option.name} has no effect in a {block.kind}")
        readable = self._readable(setting.value)
        if readable is None:
            block.unknown.add(option.field)
            return
        try:
            value = option.type.read(readable, self._problems.warn)
        except BadValueError as error:
            block.unknown.add(option.field)
            self._problems.error(error.place, f"{option.name}: {error.message}")
        else:
            block.assignments[option.field] = assignment = Assignment(value, setting.value.place)
            if isinstance(value, AuthParameters) and value.module:
                self._schemes.append((_uri_place(setting.value), option, value, block, assignment))

    def _refuse_setting(self, option: Option | None, setting: Setting, block: Block) -> None:
        if block.kind in _BINDINGS:
            pass  # the scope itself has a warning
        elif block.kind == SERVER_NAME:
            self._misplaced_in_server_name(setting, block)
        elif block.kind == DOMAIN_SCOPE:
            self._misplaced_in_domain(setting)
        elif option is None and block.kind in {SCRIPTLET, SCRIPT} and nearest(setting.name, _OF_SCRIPTS) is None:
            message = f"{_short(setting.name)} has no effect in a {block.kind}: scripts are kept until a reload"
            self._problems.warn(setting.place, message)
        elif option is None:
            self._unknown_option(setting, block)
        else:
            self._misplaced(option, setting, block)

    def check_schemes(self, *, scripted: bool) -> None:
        """Report URIs with foreign schemes; the stanza of a module may follow them.

        Scripts register schemes, too, but only when they are loaded: see ``server/profile.py``.
        """
        for place, option, value, block, assignment in self._schemes:
            scheme = value.module
            if scheme.lower() in self._registered:
                known = evolve(value, is_of_momentum=True)
                block.assignments[option.field] = evolve(assignment, value=known)
            severity, message = module_problem(scheme, self._registered)
            if scripted and (severity is Severity.ERROR or scheme == SCRIPT_SCHEME):
                continue
            tell = self._problems.error if severity is Severity.ERROR else self._problems.warn
            tell(place, f"{option.name}: {message}")

    def _readable(self, value: Value) -> Value | None:
        """Report values that no option accepts, or only as a part of one; return the readable rest."""
        scalars = list(_scalars(value))
        for scalar in scalars:
            if "\n" in scalar.text:  # Momentum's modules have such strings
                self._problems.error(scalar.place, unclosed(scalar.place.character))
            elif _ends_with_semicolon(scalar):
                place = scalar.place.after(len(scalar.text) - 1)
                message = "no `;` stands after a value: leave it out (a value that ends with it must be quoted)"
                self._problems.error(place, message)
        if isinstance(value, Scalar) and _ends_with_semicolon(value):
            return evolve(value, text=value.text.rstrip(";"))
        return None if any("\n" in each.text or _ends_with_semicolon(each) for each in scalars) else value

    def _misplaced(self, option: Option, setting: Setting, block: Block) -> None:
        if block.scope in CONTROL and option.field in MOMENTUM_CONTROL_OPTIONS:
            self._problems.warn(setting.place, f"{option.name} has no effect in {_scope(block.scope)}: {_CONSOLES}")
            return
        if option.field in MOMENTUM_OPTIONS and option.scopes in {(DELIVERY,), (CONSUMER,)}:
            meant = INBOUND_COUNTERPARTS.get(option.field) if block.scope in _LISTENING else None
            message = f"{option.name} is read in a {option.scopes[0]} alone: it has no effect{suggest(meant)}"
            self._problems.warn(setting.place, message)
            return
        block.unknown.add(option.field)
        valid = ", ".join(option.scopes)
        self._problems.error(setting.place, f"{option.name} is not valid in {_scope(block.scope)}; it is in: {valid}")

    def _unknown_option(self, setting: Setting, block: Block) -> None:
        lower = setting.name.lower()
        if lower in SCOPES:
            rule = SCOPES[lower]
            instance = f" {rule.instance}" if rule.instance else ""
            message = f"{rule.name} is a scope, not an option: expected {rule.name}{instance} {{ … }}"
            self._problems.error(setting.place, message)
        elif lower in MOMENTUM_OPTIONS or lower in MOMENTUM_SCOPES:
            message = f"{setting.name} is an option of Momentum's that triosmtp does not implement: it has no effect"
            meant = INBOUND_COUNTERPARTS.get(lower) if block.scope in _LISTENING else None
            self._problems.warn(setting.place, f"{message}{suggest(meant)}")
        else:
            known = [option.name for option in OPTIONS.values()]
            block.unknown |= {each.lower() for each in (nearest(setting.name, known) or "").split(" or ") if each}
            name = nearest(setting.name, known) or misspelt(setting.name, MOMENTUM_OPTIONS)
            self._problems.error(setting.place, f"unknown option {_short(setting.name)}{suggest(name)}")

    def _misplaced_in_server_name(self, statement: Setting | Scope, block: Block) -> None:
        """Report everything that is not valid there.  Options of Momentum's are errors too."""
        block.unknown.add("*")
        valid = [option.name for option in OPTIONS.values() if SERVER_NAME in option.scopes]
        lower = statement.name.lower()
        if lower in OPTIONS or lower in SCOPES:
            name, close = OPTIONS[lower].name if lower in OPTIONS else SCOPES[lower].name, ""
        else:
            name, close = _short(statement.name), suggest(nearest(statement.name, valid))
        message = f"{name} is not valid in a {SERVER_NAME}; what is: {', '.join(valid)}{close}"
        self._problems.error(statement.place, message)

    def _misplaced_in_domain(self, statement: Setting | Scope) -> None:
        """Warn about other options there: Momentum's are about delivery to the domain."""
        lower = statement.name.lower()
        meant = misspelt(statement.name, _OF_DOMAINS)
        if meant is not None and lower not in MOMENTUM_OPTIONS and lower not in OPTIONS:
            self._problems.error(statement.place, f"unknown option {_short(statement.name)}{suggest(meant)}")
        else:
            message = f"{_short(statement.name)} has no effect in a {DOMAIN_SCOPE}, {_READ_IN_DOMAINS}"
            self._problems.warn(statement.place, message)

    # Scopes

    def _scope(self, scope: Scope, block: Block) -> None:
        rule = SCOPES.get(scope.name.lower())
        if block.kind == SERVER_NAME:
            self._misplaced_in_server_name(scope, block)
        elif block.kind == DOMAIN_SCOPE:
            self._misplaced_in_domain(scope)
        elif block.kind in _BINDINGS and scope.name.lower() not in {DOMAIN_SCOPE.lower(), BINDING.lower()}:
            pass  # the scope around it has a warning
        elif rule is None or (rule.name in _BINDINGS and not _concerns_recipients(scope)):
            self._unknown_scope(scope)
        elif rule.name == PEER and block.scope in CONTROL:
            message = f"{rule.name} has no effect in {_scope(block.scope)}: {_CONSOLES}; all in it is skipped"
            self._problems.warn(scope.place, message)
        elif rule.name == DOMAIN_SCOPE and not _concerns_recipients(scope):
            message = f"{rule.name} is a scope of Momentum's, {_READ_IN_DOMAINS}: all in it is skipped"
            self._problems.warn(scope.place, message)
        else:
            self._known_scope(rule, scope, block)

    def _known_scope(self, rule: ScopeRule, scope: Scope, block: Block) -> None:
        if block.scope not in rule.parents:
            block.unknown.add(rule.name.lower())
            valid = ", ".join(rule.parents)
            self._problems.error(scope.place, f"{rule.name} is not valid in {_scope(block.scope)}; it is in: {valid}")
            return
        if scope.instance is None and rule.instance:
            block.unknown.add(rule.name.lower())
            self._problems.error(scope.place, f"expected an instance: {rule.name} {rule.instance} {{ … }}")
            return
        if rule.name in _BINDINGS:
            message = f"{rule.name} is a scope of Momentum's, of which triosmtp reads {DOMAIN_SCOPE} alone"
            self._problems.warn(scope.place, message)
        self.statements(scope.body, self._child(rule, scope, block))

    def _unknown_scope(self, scope: Scope) -> None:
        lower = scope.name.lower()
        if lower == "auth_ds":
            self._registered |= _names(scope)
        if lower == "alerting":
            return  # Momentum's scriptlets need it
        if lower in OPTIONS:
            name = OPTIONS[lower].name
            self._problems.error(scope.place, f"{name} is an option, not a scope: expected {name} = value")
        elif lower in MOMENTUM_SCOPES:
            message = f"{scope.name} is a scope of Momentum's that triosmtp does not implement: all in it is skipped"
            self._problems.warn(scope.place, message)
        else:
            known = nearest(scope.name, (rule.name for rule in SCOPES.values())) or misspelt(
                scope.name, MOMENTUM_SCOPES
            )
            message = f"{_short(scope.name)} is taken for a module of Momentum's: all in it is skipped{suggest(known)}"
            self._problems.warn(scope.place, message)

    def _child(self, rule: ScopeRule, scope: Scope, block: Block) -> Block:
        instance = None if scope.instance is None else scope.instance.text
        place = scope.place if scope.instance is None else scope.instance.place
        child = Block(rule.name, instance, place, block, key=instance)
        try:
            if "\n" in (instance or ""):
                raise ValueError(unclosed(place.character))
            if instance == "":
                raise ValueError(f"expected {rule.instance or 'a name'}, found an empty string")
            if instance is not None:
                self._identify(child, instance, place)
        except ValueError as error:
            block.unknown.add(rule.name.lower())
            self._problems.error(place, f"{rule.name}: {error}")
            return child  # what stands in it is checked all the same
        return block.children.setdefault((rule.name, child.key), child)

    def _identify(self, child: Block, instance: str, place: Place) -> None:
        """Read the key of a block from its instance.

        :raises ValueError: if it is not that.
        """
        if child.kind == PEER:
            child.network, loose = parse_network(instance)
            child.key = child.network
            if loose:
                self._problems.warn(place, f"{instance} means {child.network}: write that if it is meant")
        elif child.kind == LISTEN:
            child.address = parse_address(instance, place.source.folder)
            if child.scope == CONTROL_LISTEN and isinstance(child.address, TCPAddress):
                self._problems.warn(place, f"Listen {quote(instance)} is not served: {_NO_TCP}")
        elif child.kind == LOG and instance not in LOGS:
            raise ValueError(f"expected {', '.join(LOGS)}, found {quote(instance)}")
        elif child.kind == SERVER_NAME:
            child.server_name = parse_server_name(instance)
        elif child.kind == DOMAIN_SCOPE:
            child.key = domain_scope_key(instance)
        elif child.kind == SCRIPTLET and instance != SCRIPTLET:
            raise ValueError(f'there is one, with the name "{SCRIPTLET}"; found {quote(instance)}')
        elif child.kind in {FILTER, DELIVERY, CONSUMER} and not is_filter_name(instance):
            raise ValueError(
                f"expected a name of letters, digits, `.`, `_` and `-`, at most 64, found {quote(instance)}"
            )


_OF_SCRIPTS = tuple(option.name for option in OPTIONS.values() if {SCRIPT, SCRIPTLET} & {*option.scopes})
_LISTENING = {ESMTP_LISTENER, LISTEN, PEER}
_OF_DOMAINS = tuple(option.name for option in OPTIONS.values() if DOMAIN_SCOPE in option.scopes)
_BINDINGS = {BINDING, BINDING_GROUP}
_READ_IN_DOMAINS = f"of which triosmtp reads {', '.join(_OF_DOMAINS[:-1])} and {_OF_DOMAINS[-1]} alone"
_CONSOLES = "only its Unix sockets are served, and their File_Mode decides who may connect"
_NO_TCP = f"{_CONSOLES}; a TCP port is open to every local user"


def domain_scope_key(instance: str) -> str:
    """Return the key of a Domain scope: of a domain, or of ``*.`` and a domain.

    :raises DomainError: if it is neither.
    """
    below = "*." if instance.startswith("*.") else ""
    return below + name_key(instance.removeprefix(below))


def _concerns_recipients(statement: Statement) -> bool:
    """Return whether a Domain scope, or a Domain in a Binding, has options of triosmtp, or may have."""
    if not isinstance(statement, Scope):
        return isinstance(statement, Include)
    if statement.name.lower() != DOMAIN_SCOPE.lower():
        bindings = {BINDING.lower(), BINDING_GROUP.lower()}
        return statement.name.lower() in bindings and any(map(_concerns_recipients, statement.body))
    return any(
        isinstance(each, Include) or (isinstance(each, Setting) and misspelt(each.name, _OF_DOMAINS) is not None)
        for each in statement.body
    )


def _uri_place(value: Value) -> Place:
    entries = value.entries if isinstance(value, Dictionary) else ()
    return next((each.place for key, each in entries if key.text.lower() == "uri"), value.place)


def _names(scope: Scope) -> set[str]:
    """Return the instance of a stanza, and the names that stand in it, in lower case."""
    names = set() if scope.instance is None else {scope.instance.text.lower()}
    for each in scope.body:
        if isinstance(each, Setting | Scope):
            names.add(each.name.lower())
        if isinstance(each, Scope) and each.instance is not None:
            names.add(each.instance.text.lower())
    return names


def _scalars(value: Value) -> Iterator[Scalar]:
    if isinstance(value, Scalar):
        yield value
    elif isinstance(value, Items):
        for each in value.values:
            yield from _scalars(each)
    elif isinstance(value, Dictionary):
        for key, each in value.entries:
            yield key
            yield from _scalars(each)


def _ends_with_semicolon(scalar: Scalar) -> bool:
    return not scalar.quoted and scalar.text.endswith(";")


def _scope(kind: str) -> str:
    return "the global scope" if kind == GLOBAL else f"a {kind}" if kind != ESMTP_LISTENER else f"an {kind}"


def _short(name: str) -> str:
    return name if len(name) <= 64 else f"{name[:64]}…"
