"""The registration of a policy client: the parameters of ``initialize``, checked."""

import re
from collections.abc import Mapping
from fnmatch import translate
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final, Literal

from attrs import define, field, frozen

from triosmtp.policy.interface import PHASES, Phase
from triosmtp.policy_service.json_field import invalid_field, read_boolean, read_choice, read_strings, read_text

__all__ = ["NOTIFICATIONS", "ON_REQUEST", "Patterns", "Registration", "read_registration"]

NOTIFICATIONS: Final = (
    "session.opened", "session.tls", "session.tls_failed", "session.auth", "session.refused", "session.closed",
    "message.accepted", "message.refused", "certificates.reloaded", "certificates.reload_failed",
    "certificates.expiring", "configuration.reloaded", "policy.fallback", "policy.shadow", "session.phase",
)  # fmt: skip
ON_REQUEST: Final = frozenset({"session.phase"})
"""Notifications that only a client receives that names them in full."""

_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch
_MAX_REMEMBERED: Final = 1000
"""Names of variables whose match :class:`Patterns` remembers."""


@define(slots=True, eq=False)
class Patterns:
    """Shell patterns of names, such as ``tls*``.  Results are remembered, up to a limit."""

    patterns: tuple[str, ...]
    _match: Any = field(init=False)
    _known: dict[str, bool] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._match = None if "*" in self.patterns else _compiled(self.patterns)

    def __contains__(self, name: str) -> bool:
        if self._match is None:
            return True
        known = self._known.get(name)
        if known is None:
            known = self._match(name) is not None
            if len(self._known) < _MAX_REMEMBERED:
                self._known[name] = known
        return known

    def select(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the variables whose names match."""
        if self._match is None:
            return dict(variables)
        known = self._known
        return {
            name: value for name, value in variables.items() if known.get(name) or (name not in known and name in self)
        }


@lru_cache(maxsize=256)
def _compiled(patterns: tuple[str, ...]) -> Any:
    return re.compile("|".join(translate(pattern) for pattern in patterns) or "(?!)").match


@frozen(slots=True, kw_only=True, eq=False)
class Registration:
    """The parameters of ``initialize``: the client, and what it wants."""

    name: str
    group: str = ""
    role: Literal["observer", "decider"] = "observer"
    phases: frozenset[Phase] = frozenset()
    variables: Patterns = field(factory=lambda: Patterns(("*",)))
    """Variables of the connection context that it wants."""
    message_variables: Patterns = field(factory=lambda: Patterns(("*",)))
    """Variables of the message context that it wants."""
    mode: Literal["enforce", "shadow"] = "enforce"
    peers: tuple[IPv4Network | IPv6Network, ...] = ()
    """Addresses of SMTP clients whose sessions it wants; empty: all."""
    listeners: frozenset[str] = frozenset()
    """Names of Listens whose sessions it wants; empty: all."""
    notifications: frozenset[str] = frozenset(NOTIFICATIONS) - ON_REQUEST
    changed_only: bool = False
    """Whether it wants only the variables that changed since the last question about the session."""
    bodies: bool = False
    """Whether it wants the messages in ``session.phase``."""

    @property
    def selection(self) -> object:
        """A key that is equal for clients that receive the same variables."""
        return self.variables.patterns, self.message_variables.patterns

    def patterns(self, context: str) -> Patterns:
        """Return the patterns of a context: ``variables`` or ``message_variables``."""
        return self.message_variables if context == "message_variables" else self.variables

    @property
    def decides(self) -> bool:
        """Whether its answers are applied."""
        return self.role == "decider" and self.mode == "enforce"

    @property
    def shadows(self) -> bool:
        """Whether it is asked after each phase, and its answers are only compared."""
        return self.role == "decider" and self.mode == "shadow"

    def wants_session(self, peer: str, listener: str) -> bool:
        """Return whether it wants sessions of ``peer`` at ``listener``."""
        if self.listeners and listener not in self.listeners:
            return False
        return not self.peers or _is_in(peer, self.peers)


@lru_cache(maxsize=4096)
def _is_in(peer: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    host = peer.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in networks)


def read_registration(params: Mapping[str, Any]) -> Registration:
    """Read the parameters of ``initialize``.

    :raises ProtocolError: if a parameter is invalid; the text names it.
    """
    role = read_choice(params, "role", ("observer", "decider"), "observer")
    group = read_text(params, "group", "")
    phases = read_strings(params, "phases", ())
    unknown = [phase for phase in phases if phase not in PHASES]
    if unknown:
        raise invalid_field("phases", f"there is no phase {unknown[0]!r}; there are {', '.join(PHASES)}")
    if group and not _WORD(group):
        raise invalid_field("group", "expected at most 64 letters, digits, dots, dashes and underscores")
    if role == "decider" and not group:
        raise invalid_field("group", "a decider needs one")
    if role == "decider" and not phases:
        raise invalid_field("phases", "a decider needs one at least")
    name = read_text(params, "name", None)
    if not _WORD(name):
        raise invalid_field("name", "expected 1 to 64 letters, digits, dots, dashes and underscores")
    wanted = read_strings(params, "notifications", None)
    variables = read_strings(params, "variables", ("*",))
    return Registration(
        name=name,
        group=group,
        role="decider" if role == "decider" else "observer",
        phases=frozenset(phase for phase in PHASES if phase in phases),
        variables=Patterns(variables),
        message_variables=Patterns(read_strings(params, "message_variables", variables)),
        mode="shadow" if read_choice(params, "mode", ("enforce", "shadow"), "enforce") == "shadow" else "enforce",
        peers=_networks(params),
        listeners=frozenset(read_strings(params, "listeners", ())),
        notifications=_notifications(wanted),
        changed_only=read_boolean(params, "changed_only"),
        bodies=read_boolean(params, "bodies"),
    )


def _notifications(wanted: tuple[str, ...] | None) -> frozenset[str]:
    if wanted is None:
        return frozenset(NOTIFICATIONS) - ON_REQUEST
    found: set[str] = set()
    for pattern in wanted:
        named = {name for name in NOTIFICATIONS if name == pattern or name in Patterns((pattern,))}
        if not named:
            raise invalid_field("notifications", f"{pattern!r} names none; there are {', '.join(NOTIFICATIONS)}")
        found |= named if pattern in ON_REQUEST else named - ON_REQUEST
    return frozenset(found)


def _networks(params: Mapping[str, Any]) -> tuple[IPv4Network | IPv6Network, ...]:
    networks = []
    for text in read_strings(params, "peers", ()):
        try:
            networks.append(ip_network(text, strict=False))
        except ValueError:
            raise invalid_field("peers", f"{text!r} is not an address or a CIDR block") from None
    return tuple(networks)
