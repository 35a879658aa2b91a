"""The policy scripts of a configuration.  Imported only if there are any."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from triosmtp.config import OPTIONS, Config, Settings
from triosmtp.delivery import EventSink
from triosmtp.errors import ConfigError, Problem, Severity, needs_extra
from triosmtp.observer import Subscription
from triosmtp.policy import Policy, Session
from triosmtp.recipients.known_recipients import KnownRecipients
from triosmtp.server.filter_policies import make_recipient_judge
from triosmtp.smtp import Address

if TYPE_CHECKING:
    from triosmtp.lua.api.inbound_audit import InboundAudit
    from triosmtp.lua.api.open_sessions import OpenSessions
    from triosmtp.lua.engine import Engine
    from triosmtp.server.service import Service

__all__ = ["ScriptSet", "load_scripts", "script_warnings"]

_MISSING = f"a script {needs_extra('lupa', 'lua')}"


class ScriptSet:
    """The scripts of one configuration: their engine, and a policy for each scope."""

    def __init__(self, engine: "Engine", events: EventSink, *, observes: bool = False) -> None:
        self.engine = engine
        self._events = events
        self._policies: dict[int, Policy] = {}
        self.observes = observes
        """Whether the events of the server are passed to the counters already."""

    def policy(self, settings: Settings, hostname: str, recipients: KnownRecipients | None) -> Policy:
        """Return the policy for connections with ``settings``."""
        from triosmtp.lua.script_policy import ScriptSettings, make_script_policy  # noqa: PLC0415 - needs lupa

        if id(settings) not in self._policies:
            found = ScriptSettings(
                hostname=settings.banner_hostname or hostname,
                timeout=settings.policy_timeout,
                spool_directory=settings.spool_directory,
                spool_min_free=settings.spool_min_free,
                emit=self._events.emit,
                judge=make_recipient_judge(settings, recipients),
            )
            self._policies[id(settings)] = make_script_policy(self.engine, found)
        return self._policies[id(settings)]

    def attach(self, service: "Service") -> None:
        """Let the scripts see the sessions and events of a server."""
        resources = self.engine.resources

        def watch(sessions: "OpenSessions") -> None:
            sessions.begin((each.session.id, each.session.peer_address) for each in service.running)
            service.observers.add(Subscription(sessions, SESSION_EVENTS))

        def observe(audit: "InboundAudit") -> None:
            if not self.observes:
                self.observes = True
                service.observers.add(Subscription(audit, KINDS))

        from triosmtp.lua.api.inbound_audit import KINDS  # noqa: PLC0415 - needs lupa
        from triosmtp.lua.api.open_sessions import SESSION_EVENTS  # noqa: PLC0415 - needs lupa

        resources.watch = watch
        resources.observe = observe
        if resources.audit.is_used:
            observe(resources.audit)


def load_scripts(config: Config, events: EventSink, former: ScriptSet | None) -> ScriptSet:
    """Load the scripts of ``config``.  Blocks.  ``former`` are those that they replace: their counters go on.

    :raises ConfigError: if lupa is missing, or if a script cannot be loaded.
    """
    scripts = config.scripts
    assert scripts is not None, "there are scripts"
    try:
        from triosmtp.lua.api.resources import Resources  # noqa: PLC0415 - needs lupa
        from triosmtp.lua.engine import Engine, LoadError, ScriptSource  # noqa: PLC0415 - needs lupa
        from triosmtp.lua.state import LuaLimits  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "lupa":
            raise
        raise ConfigError([scripts.scripts[0].problem(_MISSING)]) from None
    sources = tuple(ScriptSource(each.name, each.source) for each in scripts.scripts)
    settings = scripts.settings
    limits = LuaLimits(instructions=settings.script_max_instructions, memory=settings.script_max_memory)
    folders = (*(() if config.folder is None else (config.folder,)), *settings.script_path)
    resources = Resources() if former is None else former.engine.resources
    lookups = resources.lookups.with_servers(config.base.dns_servers)
    resources = resources.reloaded(folders=tuple(folders), option=partial(_option, config), lookups=lookups)
    engine = Engine(sources, folders, limits=limits, resources=resources)
    resources.judge = partial(_judge, engine)
    places = dict(zip(sources, scripts.scripts, strict=True))
    engine.preload()
    try:
        _run(engine.load)
    except LoadError as error:
        problems = [
            places[each.script].problem(f"script {each.script.name}: {each}") for each in (error, *error.others)
        ]
        raise ConfigError(problems) from None
    return ScriptSet(engine, events, observes=former is not None and former.observes)


async def _judge(engine: "Engine", session: Session, address: Address) -> str:
    """Return why a script may not add a recipient; the rules are those of the session's scope."""
    judge = engine.of_session(session).judge
    return "there are no rules for recipients here" if judge is None else await judge(session, address)


def script_warnings(config: Config, found: ScriptSet) -> list[Problem]:
    """Return what was noticed while the scripts were loaded, with the places of the scripts."""
    scripts = () if config.scripts is None else config.scripts.scripts
    places = {(each.name, each.source): each for each in scripts}
    problems = []
    for script, text in found.engine.warnings:
        place = None if script is None else places.get((script.name, script.source))
        warning = Severity.WARNING
        problems.append(Problem(warning, text) if place is None else place.problem(text, warning))
    return problems


def _option(config: Config, name: str) -> tuple[object, str] | None:
    """Return the value of a global option, and its text in a configuration file."""
    option = OPTIONS.get(name.lower())
    if option is None:
        return None
    value = getattr(config.base, option.field)
    return value, option.write(value)


def _run(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an async function to its end, in a thread of Trio or without Trio."""
    if trio.lowlevel.in_trio_run():  # a test or a program that makes profiles on its event loop: nothing can wait
        coroutine = function()
        try:
            coroutine.send(None)
        except StopIteration:
            return
        raise RuntimeError("scripts that wait while they are loaded cannot be loaded on the event loop")
    try:
        trio.from_thread.run(function)
    except RuntimeError as error:
        if "trio" not in str(error).lower():
            raise
        trio.run(function)
