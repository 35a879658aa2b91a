"""Make what the sessions of a configuration need: policies, deliveries, password files, TLS contexts.  No sockets."""

import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial

import trio

from triosmtp.auth import MockKey, PasswordFile
from triosmtp.config import Config, problem_at
from triosmtp.delivery import Delivery, FunctionDelivery
from triosmtp.errors import ConfigError, Problem, collect
from triosmtp.event import Observer
from triosmtp.limits.target_slots import SlotRegistry
from triosmtp.message import Message
from triosmtp.policy import Policy
from triosmtp.policy_service.hub import Hub
from triosmtp.server.generation import Generation
from triosmtp.server.policy_endpoint import read_policy_endpoints
from triosmtp.server.profile import Profiles
from triosmtp.server.published_events import make_event_publisher
from triosmtp.server.service import Service
from triosmtp.server.service_limits import ServiceLimits
from triosmtp.server.tls_contexts import build_contexts, tls_users
from triosmtp.tls import ContextStore, TLSSettings
from triosmtp.tls.context_store import Renewal

__all__ = ["open_service", "prepare_generation", "read_mock_key"]

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
    is_worker: bool = False,
    limits: ServiceLimits | None = None,
    slots: SlotRegistry | None = None,
) -> Service:
    """Make everything that sessions of ``config`` need, except sockets.

    ``contexts`` are TLS contexts that were built earlier, with the right to read more files.  They are used even if
    their files cannot be read now.  ``mock_key`` is the key for mock credentials; all workers share it.

    ``is_worker`` is whether a supervisor has opened the same configuration.  Then a file of users or recipients that
    cannot be read now is logged, and its users receive temporary errors.  A worker has no policy clients.

    :raises ConfigError: with a problem for each policy, delivery and certificate that cannot be used, with its place in
        the configuration.
    :raises TypeError: if ``policy`` or ``deliver`` has the wrong type.
    """
    if not (deliver is None or isinstance(deliver, Delivery) or callable(deliver)):
        raise TypeError(f"deliver is a Delivery or an async function, not {deliver!r}")
    delivery = deliver if deliver is None or isinstance(deliver, Delivery) else FunctionDelivery(deliver)
    policies = None if policy is None else (policy,) if isinstance(policy, Policy | type) else tuple(policy)
    for each in policies or ():
        if not isinstance(each, Policy):
            raise TypeError(f"policy is a Policy or several of them: instances, not {each!r}")
    if not is_worker:
        await trio.to_thread.run_sync(_check_shared_counts, config)
    # A supervisor publishes the events of its workers.
    publisher = None if is_worker else await trio.to_thread.run_sync(make_event_publisher, config)
    hub = hub or Hub()
    profiles = Profiles(
        config,
        socket.gethostname(),
        policies=policies,
        delivery=delivery,
        hub=hub,
        mock_key=mock_key or await trio.to_thread.run_sync(read_mock_key, config),
        is_worker=is_worker,
        slots=slots,
    )
    contexts = contexts or ContextStore()
    preloaded = frozenset(each.material.settings for each in contexts.contexts())
    generation, renewal = await trio.to_thread.run_sync(prepare_generation, config, profiles, contexts, preloaded)
    if not is_worker:
        try:
            await profiles.targets.check()
        except BaseException:
            with trio.CancelScope(shield=True):
                await profiles.aclose()
            raise
    contexts.replace(renewal.contexts)
    service = Service(generation, contexts, hub, observers, limits=limits, publisher=publisher)
    if not is_worker:
        _share_counts(service)
    return service


def _check_shared_counts(config: Config) -> None:
    """Check the Limits_Store, if there is one.  Blocks.

    :raises ConfigError: if its options cannot be used.
    """
    if config.base.limits_store is not None:
        from triosmtp.server.limits_store import check_limits_store  # noqa: PLC0415 - few need it

        check_limits_store(config)


def _share_counts(service: Service) -> None:
    """Count in the Limits_Store, if there is one."""
    if service.config.base.limits_store is not None:
        from triosmtp.limits.shared_counts import SharedCounts  # noqa: PLC0415 - few need it
        from triosmtp.server.limits_store import make_redis_store  # noqa: PLC0415

        service.limits.shared = SharedCounts(make_redis_store(service.config, service.emit))


def read_mock_key(config: Config) -> MockKey:
    """Return the key for mock credentials.  Blocks.

    :raises ConfigError: if Mock_Credentials_File cannot be used.
    """
    key = MockKey(kept=True, file=config.base.mock_credentials_file)
    try:
        key.check()
    except (OSError, ValueError) as error:
        text = f'"{key.file}": {error.strerror}' if isinstance(error, OSError) else str(error)
        raise ConfigError([problem_at(config.base, "mock_credentials_file", text)]) from None
    return key


def prepare_generation(
    config: Config, profiles: Profiles, contexts: ContextStore, preloaded: Collection[TLSSettings] = ()
) -> tuple[Generation, Renewal]:
    """Make everything that ``config`` names.  Blocking.  Changes nothing that is in force.

    Return, beside the generation, the TLS contexts that are to be in force with it.  Contexts with ``preloaded``
    settings exist already, even if their files cannot be read now.

    :raises ConfigError: with a problem for everything that cannot be made.
    """
    problems: list[Problem] = []
    _log_faults(profiles, problems)
    endpoints = {} if profiles.is_worker else collect(problems, partial(read_policy_endpoints, config)) or {}
    users = tls_users(config)
    built = collect(problems, partial(build_contexts, contexts, users, preloaded=preloaded))
    if built is None or problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    warnings = list(built.warnings)
    if profiles.script_set is not None:
        from triosmtp.server.scripts import script_warnings  # noqa: PLC0415 - only if there are scripts

        warnings += script_warnings(config, profiles.script_set)
    for warning in warnings:
        _log.warning("%s%s", f"{warning.position}: " if warning.position else "", warning.message)
    return Generation(config, profiles, tuple(users), endpoints), built.renewal


def _log_faults(profiles: Profiles, problems: list[Problem]) -> None:
    """Make all profiles, and log each line of their files that is skipped, once."""
    faults: dict[str, None] = {}
    for profile in collect(problems, profiles.prepare) or ():
        for _, file in profile.sasl.files():
            for fault in file.faults if isinstance(file, PasswordFile) else ():
                faults[f"{fault}: the line is skipped"] = None
        for recipients in profile.recipients.every_file() if profile.recipients is not None else ():
            faults.update(dict.fromkeys(f"{fault}: skipped" for fault in recipients.faults))
    for fault in faults:
        _log.warning("%s", fault)
