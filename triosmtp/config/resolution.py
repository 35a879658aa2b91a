"""Which value of an option is in force: the order of fallback, and the Peer blocks that hold for an address."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeAlias

from triosmtp.config.option import (
    BINDING,
    BINDING_GROUP,
    CONSUMER,
    DELIVERY,
    DOMAIN_SCOPE,
    FILTER,
    PATHWAY_GROUP,
    PATHWAY_SCOPE,
    PEER,
    POLICY_LISTENER,
    SERVER_NAME,
    STATUS_LISTENER,
)
from triosmtp.config.options import OPTIONS, Settings
from triosmtp.config.scope import Block
from triosmtp.config.source import Place
from triosmtp.config.types.auth_parameters import AUTH_PARAMETERS, AuthParameters
from triosmtp.config.types.option_type import Network

__all__ = [
    "PASSWORD_FILES", "Resolver", "ScopeChain", "domain_blocks", "has_password_file", "pathways_of", "settings_of",
]  # fmt: skip

Address: TypeAlias = IPv4Address | IPv6Address

ScopeChain: TypeAlias = tuple[Block, ...]
"""Blocks in the order in which they are asked for an option's value."""

PASSWORD_FILES = frozenset(row.field for row in OPTIONS.values() if row.type is AUTH_PARAMETERS)
"""The options that name a file of passwords."""


def pathways_of(root: Block) -> dict[str, Block]:
    """Return every Pathway by its name, in any group; of two with one name the first."""
    pathways: dict[str, Block] = {}
    for group in (root, *root.of_kind(PATHWAY_GROUP)):
        for pathway in group.of_kind(PATHWAY_SCOPE):
            pathways.setdefault(pathway.instance or "", pathway)
    return pathways


def domain_blocks(block: Block) -> Iterator[Block]:
    """Yield every Domain scope: in the global scope, in Bindings and in Binding_Groups; all mean the same."""
    yield from block.of_kind(DOMAIN_SCOPE)
    for kind in (BINDING_GROUP, BINDING):
        for child in block.of_kind(kind):
            yield from domain_blocks(child)


def settings_of(chain: ScopeChain) -> Settings:
    """Return the settings for a chain of blocks that ends with the global scope.

    If it begins with a Server_Name, the options of that scope are never taken from later blocks: the key of one
    certificate is not that of another.

    Of Auth_Service and files of passwords, those of the first scope that has either are in force.
    """
    values: dict[str, Any] = {}
    places: dict[str, Place] = {}
    named = chain[0].kind == SERVER_NAME
    rivals: frozenset[str] = frozenset()
    for block in chain:
        for field, assignment in block.assignments.items():
            hidden = named and block is not chain[0] and SERVER_NAME in OPTIONS[field].scopes
            if field not in values and not hidden and field not in rivals:
                values[field] = assignment.value
                places[field] = assignment.place
        rivals = rivals or _rivals_of(block)
    return Settings(**values, places=places)


def _rivals_of(block: Block) -> frozenset[str]:
    """Return the fields that a block puts out of force in the scopes around it."""
    if "auth_service" in block.assignments:
        return PASSWORD_FILES
    return frozenset({"auth_service"}) if has_password_file(block) else frozenset()


def has_password_file(block: Block) -> bool:
    """Return whether a file of passwords is named in a block."""
    values = (block.assignments[field].value for field in PASSWORD_FILES & block.assignments.keys())
    return any(isinstance(value, AuthParameters) and not value.module for value in values)


class _PeerTable:
    """The Peer blocks of one scope, found by an address in a look-up for each length of mask."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self.networks: list[Network] = []
        lengths: dict[int, dict[int, dict[int, Block]]] = {4: {}, 6: {}}
        for block in blocks:
            network = block.network
            if network is not None:
                self.networks.append(network)
                shift = network.max_prefixlen - network.prefixlen
                lengths[network.version].setdefault(shift, {})[int(network.network_address) >> shift] = block
        self._tables = {version: sorted(by_shift.items()) for version, by_shift in lengths.items()}

    def containing(self, version: int, value: int, shift: int = 0) -> list[Block]:
        """Return the blocks that contain the network of that address and number of free bits, most specific first."""
        return [
            table[value >> bits] for bits, table in self._tables[version] if bits >= shift and value >> bits in table
        ]


class Resolver:
    """Answers for one scope of connections: a Listen, or a whole listener, or any other block, with its Peers.

    Answers are kept: the same Peer blocks return the same object.
    """

    def __init__(self, root: Block, pathways: Mapping[str, Block], block: Block) -> None:
        self._root = root
        self._pathways = pathways
        self._levels: list[tuple[_PeerTable, Block]] = []
        level: Block | None = block
        while level is not None and level is not root:
            self._levels.append((_PeerTable(level.of_kind(PEER)), level))
            level = level.parent
        self._cache: dict[ScopeChain, Settings] = {}
        self._has_peers = any(table.networks for table, _ in self._levels)
        self._bare: ScopeChain = tuple(level for _, level in self._levels)
        self._base = self._settings(self._bare)

    def resolve(self, peer: Address | None) -> Settings:
        """Return the settings for a connection from ``peer``; None is a peer without an address."""
        if peer is None or not self._has_peers:
            return self._base
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return self._settings(self._blocks(peer.version, int(peer), 0))

    def variants(self) -> dict[ScopeChain, Settings]:
        """Return every possible result, by its chain; the one without a Peer comes first."""
        networks = dict.fromkeys(network for table, _ in self._levels for network in table.networks)
        found = {self.chain(None): self._base}
        for network in networks:
            blocks = self._blocks_of(network)
            found[self._complete(blocks)] = self._settings(blocks)
        return found

    def chain(self, peer: Network | None) -> ScopeChain:
        """Return the blocks that apply to all connections from ``peer``, in their order, the global scope last."""
        return self._complete(self._bare if peer is None else self._blocks_of(peer))

    def _blocks_of(self, network: Network) -> ScopeChain:
        shift = network.max_prefixlen - network.prefixlen
        return self._blocks(network.version, int(network.network_address), shift)

    def _blocks(self, version: int, value: int, shift: int) -> ScopeChain:
        blocks: list[Block] = []
        for table, level in self._levels:
            blocks += table.containing(version, value, shift)
            blocks.append(level)
        return tuple(blocks)

    def _complete(self, blocks: ScopeChain) -> ScopeChain:
        """Put in what stands behind the listener: the Pathway in force, its group, and the global scope."""
        if blocks and blocks[-1].kind in {POLICY_LISTENER, STATUS_LISTENER, DELIVERY, CONSUMER}:
            return blocks  # what admits clients of mail must not admit those who decide about it, look on, or get it
        chain = (*blocks, self._root)
        if blocks and blocks[0].kind in {PATHWAY_SCOPE, PATHWAY_GROUP, DOMAIN_SCOPE, FILTER}:
            return chain
        name = next((block.assignments["pathway"].value for block in chain if "pathway" in block.assignments), None)
        pathway = self._pathways.get(name) if isinstance(name, str) else None
        if pathway is None:
            return chain
        group = pathway.parent
        behind = (pathway,) if group is None or group is self._root else (pathway, group)
        return (*blocks, *behind, self._root)

    def _settings(self, blocks: ScopeChain) -> Settings:
        settings = self._cache.get(blocks)
        if settings is None:
            settings = self._cache[blocks] = settings_of(self._complete(blocks))
        return settings
