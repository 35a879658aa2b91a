"""The start of the process, before its event loop: sockets from systemd, and steps that only root can do.

In this order: adopt systemd's sockets, bind, read keys, become the user of Security.  After that, as this user, the
server imports policies, opens logs and deliveries, and accepts connections.
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
from triosmtp.daemon.privileges import ProcessIdentity, drop_privileges, find_identity
from triosmtp.daemon.reload_access import access_warnings
from triosmtp.daemon.systemd_sockets import adopt_sockets
from triosmtp.errors import ConfigError, Problem, Severity, collect
from triosmtp.server.tls_contexts import preload_contexts, tls_users
from triosmtp.sockets.bound_socket import InheritedSocket, bind_at_startup
from triosmtp.tls import ContextStore
from triosmtp.version import versions

__all__ = ["StartupResources", "prepare_process"]

_LOADED_LATER: Final = (
    "anyio._backends._trio",
    "argon2",
    "encodings.idna",
    "scramp.utils",
    "triosmtp.delivery.target_watch",
    "triosmtp.status.application",
    "triosmtp.status.http_server",
    "triosmtp.policy_service.hub",
    "triosmtp.policy_service.websocket_server",
    "triosmtp.server.policy_listener",
)
"""Modules that a running server imports at their first use."""


@frozen(slots=True, eq=False)
class StartupResources:
    """What the process has opened before it serves; the first two are for :func:`triosmtp.serve`."""

    sockets: dict[object, InheritedSocket]
    """Listening sockets that are bound already, by the key of their Listen."""
    contexts: ContextStore | None = None
    """TLS contexts of files that root has read; None if the server reads them."""
    identity: ProcessIdentity | None = None
    """The user that the process has become; None if it has not changed."""
    warnings: list[Problem] = field(factory=list)


def prepare_process(config: Config, path: Path) -> StartupResources:
    """Take over the sockets that systemd passed; as root, also bind, read keys, and become the user of Security.

    Call it in the main thread, before any other starts.  ``path`` is the file of ``config``.

    :raises ConfigError: if a socket, a file of TLS or the user cannot be used, or root's rights cannot be given up.
    """
    sockets = adopt_sockets(config)
    identity = find_identity(config)
    if identity is None:
        return StartupResources(sockets, warnings=_identity_warnings(config))
    users = tls_users(config)
    problems: list[Problem] = []
    bound = collect(problems, partial(bind_at_startup, config, sockets, (identity.uid, identity.gid)))
    ahead = collect(problems, partial(preload_contexts, users))
    if bound is None or ahead is None:
        raise ConfigError(problems)
    sockets, (contexts, warnings) = bound, ahead
    _load_code()
    try:
        drop_privileges(identity)
    except OSError as error:
        raise ConfigError([Problem(Severity.ERROR, f"Security: {error.strerror or error}")]) from error
    warnings += access_warnings(config, path, users, identity.name)
    return StartupResources(sockets, contexts, identity, warnings)


def _load_code() -> None:
    """Import modules that a server imports later: its user may not be able to read the files of the package."""
    versions()
    for name in _LOADED_LATER:
        with suppress(ImportError):  # an extra that is not installed
            import_module(name)


def _is_public(listen: Listen) -> bool:
    address = listen.address
    return isinstance(address, TCPAddress) and (address.host is None or not ip_address(address.host).is_loopback)


def _identity_warnings(config: Config) -> list[Problem]:
    uid = os.geteuid()
    if uid == 0:
        if not any(_is_public(listen) for listen in (*config.listens, *config.policy_listens)):
            return []  # a trial on loopback
        text = 'the server runs as root: Security { User = "…" } drops root privileges after the start'
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
        security.problem(f'Security has no effect: this process was started by "{name}", not by root', Severity.WARNING)
    ]
