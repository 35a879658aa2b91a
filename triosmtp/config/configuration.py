"""A configuration as a whole, and what it answers."""

from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Literal

from attrs import evolve, frozen

from triosmtp.config.option import (
    CONSUMER,
    CONTROL_LISTENER,
    DELIVERY,
    ESMTP_LISTENER,
    FILTER,
    LISTEN,
    LOG,
    PATHWAY_GROUP,
    POLICY_LISTENER,
    SCRIPT,
    SCRIPTLET,
    SECURITY,
    SERVER_NAME,
    STATUS_LISTENER,
)
from triosmtp.config.options import Settings
from triosmtp.config.resolution import Resolver, domain_blocks, pathways_of, settings_of
from triosmtp.config.scope import Block
from triosmtp.config.source import Place, Source
from triosmtp.config.target_settings import TargetSettings
from triosmtp.config.types.listen_address import ListenAddress, TCPAddress, UnixAddress, parse_address
from triosmtp.config.types.server_name import ServerName
from triosmtp.config.types.target_address import is_delivery_name, parse_target
from triosmtp.errors import Position, Problem, Severity, UnknownNameError

__all__ = [
    "Config",
    "DomainScope",
    "Filter",
    "Listen",
    "LogFile",
    "Script",
    "Scripts",
    "Security",
    "address_key",
    "server_name_of",
]


@frozen(slots=True, eq=False)
class Listen:
    """A socket to listen on.  Two are never equal, not even of the same address."""

    name: str
    """The name as it is written: ``:25``."""
    address: ListenAddress
    block: Block
    place: Place

    @property
    def position(self) -> Position:
        """The position of the Listen."""
        return self.place.position

    @property
    def for_policy(self) -> bool:
        """Whether policy clients come to it, and not mail."""
        return self.block.parent is not None and self.block.parent.kind == POLICY_LISTENER

    @property
    def key(self) -> object:
        """What two Listens of one socket have in common: the address; of port 0, a new one each time, the name."""
        address = self.address
        if isinstance(address, TCPAddress) and address.port == 0:
            return self.name, "" if self.block.parent is None else self.block.parent.kind
        return address_key(address)

    def problem(self, message: str, severity: Severity = Severity.ERROR) -> Problem:
        """Return a problem at this Listen."""
        return self.place.problem(severity, message)


@frozen(slots=True, eq=False)
class LogFile:
    """A Log scope: what one log is."""

    name: str
    """``mainlog``, ``rejectlog``, ``acctlog``, ``stderr`` or ``syslog``."""
    path: Path | None
    format: Literal["auto", "text", "json"]
    facility: str
    place: Place

    def problem(self, message: str, severity: Severity = Severity.ERROR) -> Problem:
        """Return a problem at this scope."""
        return self.place.problem(severity, message)


@frozen(slots=True, eq=False)
class DomainScope:
    """The options that Domain scopes set for recipients of one domain; they override those of the connection."""

    key: str
    """The key of the domain; after ``*.``, that of all domains below it."""
    settings: Settings
    fields: frozenset[str]
    """Those fields of ``settings`` that the scopes themselves set."""
    place: Place

    def problem(self, message: str, severity: Severity = Severity.ERROR) -> Problem:
        """Return a problem at this scope."""
        return self.place.problem(severity, message)


@frozen(slots=True, eq=False)
class Filter:
    """A Filter scope: a filter that a Policy names as ``filter:name``.

    ``timeout`` and ``fallback`` are None if the scope does not set them; then those of the scope of Policy apply.
    """

    name: str
    connect_to: str
    phases: tuple[str, ...]
    timeout: float | None
    fallback: Literal["tempfail", "continue", "reject"] | None
    fallback_phases: Mapping[str, Literal["tempfail", "continue", "reject"]]
    hold_to: str | None
    """The name of the Delivery for messages that it holds."""
    settings: Settings
    """The options of the scope, for those that one kind of filter alone has."""
    place: Place


@frozen(slots=True, eq=False)
class Script:
    """A script scope: its name, and the Lua module that it names."""

    name: str
    source: str
    place: Place
    """The place of the source."""

    def problem(self, message: str, severity: Severity = Severity.ERROR) -> Problem:
        """Return a problem at this scope."""
        return self.place.problem(severity, message)


@frozen(slots=True, eq=False)
class Scripts:
    """The scriptlet scope: the scripts in their order, and the settings of the scope."""

    scripts: tuple[Script, ...]
    settings: Settings


@frozen(slots=True, eq=False)
class Security:
    """The Security scope: the user that the server becomes if root starts it."""

    user: str | None
    """A name or a number."""
    group: str | None
    capabilities: frozenset[str]
    place: Place

    def problem(self, message: str, severity: Severity = Severity.ERROR) -> Problem:
        """Return a problem at this scope."""
        return self.place.problem(severity, message)


class Config:
    """A whole configuration; made by :func:`~triosmtp.config.load_config`, never changed."""

    def __init__(self, source: Source, root: Block) -> None:
        self.path = source.name
        self.folder: Path | None = source.folder
        """The folder of the main file, absolute; None for a text that has none."""
        self.warnings: tuple[Problem, ...] = ()
        self.root = root
        self._pathways = pathways_of(root)
        self._resolvers: dict[Block, Resolver] = {}
        self.listens = self._listens(ESMTP_LISTENER)
        """The Listens for SMTP that are enabled, in the order of the file."""
        self.control_listens = tuple(
            listen for listen in self._listens(CONTROL_LISTENER) if isinstance(listen.address, UnixAddress)
        )
        """The Listens for the console that are enabled: Unix sockets."""
        self.policy_listens = self._listens(POLICY_LISTENER)
        """The Listens for policy clients that are enabled."""
        self.status_listens = self._listens(STATUS_LISTENER)
        """The Listens for metrics and the status page that are enabled."""

    @property
    def base(self) -> Settings:
        """Values of the global scope, for the options that are valid only there."""
        return self.resolver(self.root).resolve(None)

    @property
    def logs(self) -> tuple[LogFile, ...]:
        """Every Log scope, in the order of the file."""
        found = []
        for block in self.root.of_kind(LOG):
            if block.instance is not None and block.place is not None:
                settings = self.resolver(block).resolve(None)
                found.append(LogFile(block.instance, settings.path, settings.format, settings.facility, block.place))
        return tuple(found)

    @cached_property
    def domains(self) -> tuple[DomainScope, ...]:
        """Every domain that a Domain scope sets something for, in the order of the file."""
        by_key: dict[str, list[Block]] = {}
        for block in domain_blocks(self.root):
            if block.assignments and block.place is not None:
                by_key.setdefault(str(block.key), []).append(block)
        found = []
        for key, blocks in by_key.items():
            place = blocks[0].place
            assert place is not None, "only the global scope has no place"
            fields = frozenset(field for block in blocks for field in block.assignments)
            found.append(DomainScope(key, settings_of((*blocks, self.root)), fields, place))
        return tuple(found)

    @cached_property
    def deliveries(self) -> dict[str, TargetSettings]:
        """Every Delivery scope that has an address, by its name."""
        found = {}
        for block in self.root.of_kind(DELIVERY):
            settings = settings_of((block,))  # without the global scope
            named = any(map(is_delivery_name, settings.deliver_to))  # which is an error
            if settings.deliver_to and not named and block.instance is not None:
                addresses = tuple(map(parse_target, settings.deliver_to))
                found[block.instance] = TargetSettings(block.instance, addresses, settings)
        return found

    @cached_property
    def consumers(self) -> dict[str, Settings]:
        """The settings of every Consumer scope, by its name."""
        return {
            block.instance: settings_of((block,))  # without the global scope
            for block in self.root.of_kind(CONSUMER)
            if block.instance is not None
        }

    def target(self, text: str) -> TargetSettings:
        """Return the settings of a target that a Deliver_To names: those of a Delivery, or the defaults.

        :raises UnknownNameError: if there is no such Delivery.
        """
        if is_delivery_name(text):
            if (found := self.deliveries.get(text)) is None:
                raise UnknownNameError(f"there is no Delivery {text}")
            return found
        return TargetSettings(text, (parse_target(text),), Settings())

    @property
    def filters(self) -> dict[str, Filter]:
        """Every Filter scope that has an address, by its name."""
        found = {}
        for block in self.root.of_kind(FILTER):
            settings = settings_of((block,))  # without the global scope
            if settings.connect_to is None or block.place is None or block.instance is None:
                continue
            found[block.instance] = Filter(
                block.instance,
                settings.connect_to,
                settings.phases,
                settings.policy_timeout if "policy_timeout" in block.assignments else None,
                settings.policy_fallback if "policy_fallback" in block.assignments else None,
                settings.policy_fallback_phases,
                settings.hold_to,
                settings,
                block.place,
            )
        return found

    @property
    def scripts(self) -> Scripts | None:
        """The policy scripts in Lua; None if there are none, or only those of Momentum itself."""
        stanzas = self.root.of_kind(SCRIPTLET)
        found = []
        for script in (script for stanza in stanzas for script in stanza.of_kind(SCRIPT)):
            source = script.assignments.get("source")
            if source is not None and script.instance is not None and not _is_of_momentum(str(source.value)):
                found.append(Script(script.instance, str(source.value), source.place))
        return Scripts(tuple(found), settings_of((*stanzas[:1],))) if found else None

    @property
    def security(self) -> Security | None:
        """The Security scope; None if there is none."""
        for block in self.root.of_kind(SECURITY):
            settings = self.resolver(block).resolve(None)
            assert block.place is not None, "only the global scope has no place"
            return Security(settings.user, settings.group, settings.capabilities, block.place)
        return None

    @property
    def pathway_groups(self) -> dict[str, str]:
        """The Pathway_Group of each Pathway that is inside one, by the Pathway's name."""
        return {
            name: block.parent.instance or ""
            for name, block in self._pathways.items()
            if block.parent is not None and block.parent.kind == PATHWAY_GROUP
        }

    def resolver(self, block: Block) -> Resolver:
        """Return the resolution of options for connections of a scope."""
        resolver = self._resolvers.get(block)
        if resolver is None:
            resolver = self._resolvers[block] = Resolver(self.root, self._pathways, block)
        return resolver

    def resolve(self, listen: Listen, peer: IPv4Address | IPv6Address | None) -> Settings:
        """Return the settings for a connection from ``peer`` to ``listen``; None is a peer without an address.

        The same Peer blocks return the same object.
        """
        return self._resolvers[listen.block].resolve(peer)

    def variants(self, listen: Listen) -> tuple[Settings, ...]:
        """Return every result that :meth:`resolve` has for ``listen``; the one without a Peer comes first."""
        return tuple(self._resolvers[listen.block].variants().values())

    @cached_property
    def descriptors_per_session(self) -> int:
        """The most file descriptors that one session needs: its connection, and one to each milter."""
        milters = {f"filter:{name}" for name, each in self.filters.items() if each.connect_to.startswith("milter:")}
        policies = [settings.policy for listen in self.listens for settings in self.variants(listen)]
        return 1 + max((sum(e in milters or e.startswith("milter:") for e in each) for each in policies), default=0)

    def server_names(self, listen: Listen) -> tuple[ServerName, ...]:
        """Return the Server_Names of ``listen``, in the order of the file."""
        return tuple(server_name_of(block) for block in listen.block.of_kind(SERVER_NAME))

    def wildcard_of(self, listen: Listen) -> Listen | None:
        """Return the Listen for all addresses that ``listen`` stands beside; the socket is that one's.

        Only a Listen for mail that names one address has such a Listen.
        """
        address = listen.address
        if not isinstance(address, TCPAddress) or address.is_wildcard or listen not in self.listens:
            return None
        if "%" in (address.host or ""):
            return None  # the address that a connection came to has no name of a link
        for each in self.listens:
            if isinstance(each.address, TCPAddress) and each.address.is_wildcard and each.address.overlaps(address):
                return each
        return None

    def find_listen(self, name: str) -> Listen | None:
        """Return the enabled Listen with that name, or else the one for connections to that address."""
        for listen in self.listens:
            if listen.name == name:
                return listen
        try:
            address = parse_address(name, self.folder)
        except ValueError:
            return None
        for listen in self.listens:
            if address_key(listen.address) == address_key(address):
                return listen
        return None if isinstance(address, UnixAddress) else self.find_listen_for(address)

    def find_listen_for(self, address: TCPAddress) -> Listen | None:
        """Return the enabled Listen that takes connections to ``address``: its own, or else a wildcard."""
        for listen in self.listens:
            if listen.address == address:
                return listen
        candidates = [(each.address, each) for each in self.listens if isinstance(each.address, TCPAddress)]
        candidates = [candidate for candidate in candidates if candidate[0].accepts(address)]
        # Of the wildcard of all addresses and that of IPv6 the kernel chooses the narrower one.
        return min(candidates, key=lambda candidate: not candidate[0].ipv6)[1] if candidates else None

    def _listens(self, kind: str) -> tuple[Listen, ...]:
        return tuple(
            listen
            for listener in self.root.of_kind(kind)
            for block in listener.of_kind(LISTEN)
            if _enabled(listener) and _enabled(block) and (listen := self._listen(block)) is not None
        )

    def _listen(self, block: Block) -> Listen | None:
        address, place = block.address, block.place
        if address is None or place is None or block.instance is None:
            return None
        if isinstance(address, UnixAddress):
            address = evolve(address, mode=self.resolver(block).resolve(None).file_mode)
        else:
            self.resolver(block)
        return Listen(block.instance, address, block, place)


def server_name_of(block: Block) -> ServerName:
    """Return the settings of a Server_Name scope."""
    values: dict[str, Any] = {field: assignment.value for field, assignment in block.assignments.items()}
    places = {field: assignment.place for field, assignment in block.assignments.items()}
    return ServerName(name=block.server_name or "", **values, places=places)


def _is_of_momentum(source: str) -> bool:
    """Return whether a script is one that Momentum brings along: its effect is built in here."""
    return source.replace("/", ".").startswith("msys.")


def _enabled(block: Block) -> bool:
    assignment = block.assignments.get("enable")
    return assignment is None or assignment.value is True


def address_key(address: ListenAddress) -> object:
    """Return the address that two Listens share."""
    return address if isinstance(address, TCPAddress) else address.path
