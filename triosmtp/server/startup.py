"""What sessions of a configuration need, made beforehand: policies, deliveries, TLS contexts.  No sockets."""

import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

import trio

from triosmtp.auth import MockKey, PasswordFile
from triosmtp.config import Config, ServerName, Settings
from triosmtp.delivery import Delivery, FunctionDelivery
from triosmtp.errors import ConfigError, Problem, Severity, collect
from triosmtp.event import (
    Observer,
)
from triosmtp.message import Message
from triosmtp.policy import Policy
from triosmtp.policy_service.hub import Hub
from triosmtp.server.local_sessions import LocalSessions
from triosmtp.server.policy_listener import read_policy_endpoints
from triosmtp.server.preload_contexts import tls_users
from triosmtp.server.profile import Profiles, material_problem, material_problems
from triosmtp.server.service import Generation, Service
from triosmtp.tls import ContextStore, TLSSettings
from triosmtp.tls.context_store import Renewal, renew
from triosmtp.tls.settings import MaterialWarning

__all__ = ["open_service", "prepare_generation"]

_log = logging.getLogger("triosmtp.server")


async def open_service(
    config: Config,
    *,
    policy: Policy | Iterable[Policy] | None = None,
    deliver: Delivery | Callable[[Message], Awaitable[None]] | None = None,
    observers: Iterable[Observer] = (),
    hub: Hub | None = None,
    contexts: ContextStore | None = None,
    mock_key: MockKey | None = None,
    is_part: bool = False,
    make: Callable[[Generation, ContextStore, Hub, Iterable[Observer]], Service] = Service,
) -> Service:
    """Make everything that sessions of ``config`` need, but no socket.

    ``contexts`` are TLS contexts that were made beforehand, by one who could read more: they are in force even where
    their files cannot be read again.  ``mock_key`` is that of the service that this one is part of.
    ``is_part`` says that it is: then files of users and recipients were there when that one began.  One that cannot be
    used now is logged, and whoever needs it is told to come back.  The policy clients are the other one's.

    :raises ConfigError: naming each policy, delivery and certificate that cannot be had, with its place in the
        configuration.
    :raises TypeError: where ``policy`` or ``deliver`` is something else.
    """
    if not (deliver is None or isinstance(deliver, Delivery) or callable(deliver)):
        raise TypeError(f"deliver is a Delivery or an async function, not {deliver!r}")
    delivery = deliver if deliver is None or isinstance(deliver, Delivery) else FunctionDelivery(deliver)
    policies = None if policy is None else (policy,) if isinstance(policy, Policy | type) else tuple(policy)
    for each in policies or ():
        if not isinstance(each, Policy):
            raise TypeError(f"policy is a Policy or several of them: instances, not {each!r}")
    hub = hub or Hub()
    profiles = Profiles(
        config,
        socket.gethostname(),
        policies=policies,
        delivery=delivery,
        hub=hub,
        mock_key=mock_key or MockKey(kept=True),
        is_part=is_part,
    )
    contexts = contexts or ContextStore()
    spared = frozenset(each.material.settings for each in contexts.contexts())
    generation, renewal = await trio.to_thread.run_sync(prepare_generation, config, profiles, contexts, spared)
    contexts.replace(renewal.contexts)
    service = make(generation, contexts, hub, observers)
    service.attach(LocalSessions(service))
    return service


def prepare_generation(
    config: Config, profiles: Profiles, contexts: ContextStore, spared: Collection[TLSSettings] = ()
) -> tuple[Generation, Renewal]:
    """Have everything that ``config`` names.  Blocks, and changes nothing that is in force.

    Gives, beside the generation, the contexts that are to be in force with it: new ones for new settings alone.  Those
    of ``spared`` settings are there, whatever can be read of their files now.

    :raises ConfigError: naming what cannot be had.
    """
    problems: list[Problem] = []
    faults: dict[str, None] = {}
    for profile in collect(problems, profiles.prepare) or ():
        for _, file in profile.sasl.files():
            for fault in file.faults if isinstance(file, PasswordFile) else ():
                faults[f"{fault}: the line is skipped"] = None
        for recipients in profile.recipients.every_file() if profile.recipients is not None else ():
            faults.update(dict.fromkeys(f"{fault}: skipped" for fault in recipients.faults))
    for fault in faults:
        _log.warning("%s", fault)
    policy_endpoints = {} if profiles.is_part else collect(problems, partial(read_policy_endpoints, config)) or {}
    users = tls_users(config)
    known = {context.material.settings: context for context in contexts.contexts()}
    renewal = renew(contexts, users)
    for settings, problem in renewal.problems.items():
        if settings not in spared:
            problems += material_problems(*users[settings], problem.error)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    _log_warnings({each: told for each, told in renewal.renewed.items() if each not in known}, users)
    in_force = {settings: known.get(settings, context) for settings, context in renewal.contexts.items()}
    adopted = Renewal(contexts=in_force, renewed={}, problems={}, news=frozenset(), changed={})
    return Generation(config, profiles, tuple(users), policy_endpoints), adopted


def _log_warnings(
    renewed: Mapping[TLSSettings, Sequence[MaterialWarning]],
    users: Mapping[TLSSettings, tuple[Settings, tuple[ServerName, ...]]],
) -> None:
    """Log each warning once, whatever contexts share the file."""
    logged: set[str] = set()
    for settings, warnings in renewed.items():
        for warning in warnings:
            if str(warning) not in logged:
                logged.add(str(warning))
                found = material_problem(*users[settings], warning, Severity.WARNING)
                _log.warning("%s: %s", found.position, found.message)
