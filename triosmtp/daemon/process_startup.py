"""How the process begins, before its event loop: sockets that it was given, and what only root can do.

In this order: take systemd's sockets, bind, read keys, become the user who serves.  Policies are imported, logs and
deliveries opened and connections accepted after that, by that user.
"""

import os
import pwd
from contextlib import suppress
from functools import partial
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from attrs import field, frozen

from triosmtp.config import Config, Listen, TCPAddress
from triosmtp.daemon.privileges import Identity, drop, find_identity
from triosmtp.daemon.reload_access import access_problems
from triosmtp.daemon.systemd_sockets import take_sockets
from triosmtp.errors import ConfigError, Problem, Severity, collect
from triosmtp.server.preload_contexts import preload_contexts, tls_users
from triosmtp.sockets.bound_socket import InheritedSocket, bind_at_startup
from triosmtp.tls import ContextStore
from triosmtp.version import versions

__all__ = ["Start", "begin_process"]

_LOADED_LATER: Final = (
    "anyio._backends._trio",
    "argon2",
    "encodings.idna",
    "scramp.utils",
    "triosmtp.status.application",
    "triosmtp.status.http_server",
    "triosmtp.policy_service.hub",
    "triosmtp.policy_service.websocket_server",
    "triosmtp.server.policy_listener",
)
"""Modules that a running server imports when it first needs them."""


@frozen(slots=True, eq=False)
class Start:
    """What a process has when it begins to serve; the first two are for :func:`triosmtp.serve`."""

    sockets: dict[object, InheritedSocket]
    """Listening sockets that are there already, by the key of their Listen."""
    contexts: ContextStore | None = None
    """TLS contexts of files that were read as root; None: they are read by the server."""
    identity: Identity | None = None
    """Who the process became; None: it is whom it was."""
    warnings: list[Problem] = field(factory=list)


def begin_process(config: Config, path: Path) -> Start:
    """Take the sockets that were passed; where root has started us, bind, read keys, and become whom Security names.

    For the main thread, while there is no other.  ``path`` is where ``config`` was loaded from.

    :raises ConfigError: where a socket, a file of TLS or the user cannot be had, or root's rights were not given up.
    """
    sockets = take_sockets(config)
    identity = find_identity(config)
    if identity is None:
        return Start(sockets, warnings=_as_we_are(config))
    users = tls_users(config)
    problems: list[Problem] = []
    bound = collect(problems, partial(bind_at_startup, config, sockets, (identity.uid, identity.gid)))
    ahead = collect(problems, partial(preload_contexts, users))
    if bound is None or ahead is None:
        raise ConfigError(problems)
    sockets, (contexts, warnings) = bound, ahead
    _load_code()
    try:
        drop(identity)
    except OSError as error:
        raise ConfigError([Problem(Severity.ERROR, f"Security: {error.strerror or error}")]) from error
    warnings += access_problems(config, path, users, identity.name)
    return Start(sockets, contexts, identity, warnings)


def _load_code() -> None:
    """Load what a server loads when it is first needed: the package may lie where the user who serves cannot read."""
    versions()
    for name in _LOADED_LATER:
        with suppress(ImportError):  # an extra that is not installed
            import_module(name)


def _is_public(listen: Listen) -> bool:
    address = listen.address
    return isinstance(address, TCPAddress) and (address.host is None or not ip_address(address.host).is_loopback)


def _as_we_are(config: Config) -> list[Problem]:
    uid = os.geteuid()
    if uid == 0:
        if not any(_is_public(listen) for listen in (*config.listens, *config.policy_listens)):
            return []  # somebody tries something
        text = 'root serves, and keeps all its rights: Security { User = "…" } gives them up once all is bound and read'
        return [Problem(Severity.WARNING, text)]
    security = config.security
    if security is None or security.user is None:
        return []
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    if security.user in {name, str(uid)}:
        return []
    return [
        security.problem(f'Security has no effect: root did not start this process, "{name}" did', Severity.WARNING)
    ]
