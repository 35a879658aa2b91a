"""The commands of the console, as the server runs them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import trio
from attrs import field, frozen

from triosmtp.control import config_query
from triosmtp.control.console_protocol import ConsoleResponse
from triosmtp.errors import ConfigError, QueryError
from triosmtp.event import ConfigurationReloaded
from triosmtp.server.local_sessions import ScriptAnswer
from triosmtp.server.server import Server
from triosmtp.server.tls_report import TLSReport, tls_report
from triosmtp.version import versions

__all__ = ["ConsoleCommands"]


@frozen(slots=True)
class ConsoleCommands:
    """Runs the commands on one server."""

    server: Server
    reload: Callable[[], Awaitable[tuple[ConfigurationReloaded, list[str]]]]
    """Reads the configuration again; returns its warnings, too."""
    shut_down: Callable[[], None]
    """Begins to drain."""
    overview: Callable[[], Awaitable[dict[str, Any]]]
    """Returns the overview that ``triosmtp top`` and the status page show."""

    async def run(self, words: Sequence[str]) -> ConsoleResponse:
        """Run one command."""
        for length in (3, 2, 1):
            command = _COMMANDS.get(tuple(word.lower() for word in words[:length]))
            if command is not None and len(words) >= length:
                return await _run(command, self, list(words[length:]))
        answers = await self.server.sessions.script_command(words)
        if answers:
            return _of_scripts(answers)
        return ConsoleResponse(f"unknown command {' '.join(words)[:80]!r}; help lists the commands", status=64)


def _of_scripts(answers: Sequence[ScriptAnswer]) -> ConsoleResponse:
    """Return the answers of the scripts of each process."""
    texts = [each.text for each in answers]
    if len(answers) > 1:
        texts = [f"Worker {number}\n{text}" for number, text in enumerate(texts, 1)]
    return ConsoleResponse("\n".join(texts), [each.text for each in answers], int(any(each.failed for each in answers)))


async def _run(command: "_Command", console: ConsoleCommands, arguments: list[str]) -> ConsoleResponse:
    if arguments and not command.takes_arguments:
        return ConsoleResponse(f"{command.usage} takes no arguments", status=64)
    try:
        return await command.run(console, arguments)
    except config_query.NotSetError as error:
        return ConsoleResponse(str(error), status=1)
    except QueryError as error:
        return ConsoleResponse(str(error), status=64)
    except ConfigError as error:
        data = [
            {
                "severity": problem.severity,
                "message": problem.message,
                "position": None if problem.position is None else str(problem.position),
            }
            for problem in error.problems
        ]
        return ConsoleResponse(str(error), data, 78)


# config


async def _config_reload(console: ConsoleCommands, _arguments: list[str]) -> ConsoleResponse:
    report, warnings = await console.reload()
    lines = [*warnings, f"{report.path} is in force"]
    for what, names in (("opened", report.opened), ("closed", report.closed), ("kept", report.kept)):
        lines += [f'Listen "{name}" {what}' for name in names]
    if report.sessions:
        lines.append(f"{report.sessions} sessions on the old configuration end at their next message")
    data = {
        "path": report.path,
        "opened": list(report.opened),
        "closed": list(report.closed),
        "kept": list(report.kept),
        "sessions": report.sessions,
        "warnings": warnings,
    }
    return ConsoleResponse("\n".join(lines), data)


async def _config_show(console: ConsoleCommands, arguments: list[str]) -> ConsoleResponse:
    return _lines(config_query.config_show(console.server.service.config, arguments))


async def _config_showrecurse(console: ConsoleCommands, arguments: list[str]) -> ConsoleResponse:
    return _lines(config_query.config_showrecurse(console.server.service.config, arguments))


async def _config_get(console: ConsoleCommands, arguments: list[str]) -> ConsoleResponse:
    return _lines(config_query.config_get(console.server.service.config, arguments))


async def _config_eval(console: ConsoleCommands, arguments: list[str]) -> ConsoleResponse:
    words, options = [], {"--local": "", "--peer": ""}
    pending = iter(arguments)
    for word in pending:
        if word in options:
            options[word] = next(pending, "")
            if not options[word]:
                raise QueryError(f"{word} needs an address")
        else:
            words.append(word)
    local, peer = options["--local"] or None, options["--peer"] or None
    return _lines(config_query.config_eval(console.server.service.config, words, local=local, peer=peer))


def _lines(lines: list[str]) -> ConsoleResponse:
    return ConsoleResponse("\n".join(lines), lines)


# tls


async def _tls_show(console: ConsoleCommands, _arguments: list[str]) -> ConsoleResponse:
    service, pool = console.server.service, console.server.pool
    if pool is None:
        report = await tls_report(service)
        text, rows = report.text, report.contexts
    else:
        reports: list[tuple[int, TLSReport]] = list(enumerate(await pool.tls_reports(), 1))
        text = "\n".join(f"Worker {number}\n{report.text}" for number, report in reports)
        rows = [{"worker": number} | row for number, report in reports for row in report.contexts]
    problems = [
        {
            "file": None if each.file is None else str(each.file),
            "option": each.error.option,
            "reason": each.reason,
            "since": each.since.isoformat(timespec="seconds"),
        }
        for each in service.contexts.problems
    ]
    for each in service.contexts.problems:
        text += f"\nNOT loaded since {each.since:%Y-%m-%d %H:%M:%S} UTC: {each.error}; the contexts above stay in force"
    if not service.config.base.tls_watch:
        text += "\nThe files are not watched (TLS_Watch = false)"
    generation = service.contexts.generation
    return ConsoleResponse(text.lstrip("\n"), {"generation": generation, "contexts": rows, "problems": problems})


async def _tls_flush(console: ConsoleCommands, _arguments: list[str]) -> ConsoleResponse:
    outcome = await console.server.reload_certificates(reason="console")
    problems = list(dict.fromkeys(str(each.error) for each in outcome.problems.values()))
    renewed = len(outcome.renewed)
    if problems:
        text = "\n".join(f"NOT loaded: {problem}" for problem in problems)
    else:
        text = f"TLS contexts reloaded: {renewed}" if renewed else "certificate files unchanged"
    data = {"generation": outcome.generation, "renewed": renewed, "problems": problems}
    return ConsoleResponse(text, data, 78 if problems else 0)


# Sessions


async def _show_inbound(console: ConsoleCommands, _arguments: list[str]) -> ConsoleResponse:
    rows = await console.server.sessions.inbound()
    return ConsoleResponse(await trio.to_thread.run_sync(_session_table, rows), rows)


def _session_table(sessions: list[dict[str, object]]) -> str:
    rows = [("ID", "PEER", "LISTEN", "AGE", "TLS", "CIPHER", "VERIFIED", "STATE", "MESSAGES")]
    for each in sessions:
        tls = each["tls"]
        shown = (tls["protocol"], tls["cipher"], "yes" if tls["verified"] else "no") if isinstance(tls, dict) else ()
        state = f"{each['state']}{' (old configuration)' if each['outdated'] else ''}"
        columns = (each["id"], each["peer"], each["listener"], f"{each['age']} s", *(shown or ("off", "-", "-")), state)
        rows.append(tuple(str(column) for column in (*columns, each["messages"])))  # type: ignore[arg-type]  # nine
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, f"{len(sessions)} sessions"])


# Policy


async def _show_policy(console: ConsoleCommands, _arguments: list[str]) -> ConsoleResponse:
    hub = console.server.service.hub
    data = {"groups": hub.groups(), "clients": hub.clients()}
    return ConsoleResponse(_policy_text(data["groups"], data["clients"]), data)


def _policy_text(groups: Sequence[Mapping[str, Any]], clients: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for group in groups:
        latency = group["latency_ms"]
        lines.append(
            f"group {group['group']}: {group['deciders']} deciders at {', '.join(group['phases']) or 'no phase'}; "
            f"asked {group['asked']}, answered {group['answered']}, timed out {group['timeouts']}, "
            f"invalid {group['invalid']}, fallbacks {group['fallbacks']}; breaker {group['breaker']}; "
            f"p50 {latency['p50']} ms, p99 {latency['p99']} ms"
        )
    for each in clients:
        role = f"{each['role']}{' in shadow' if each['mode'] == 'shadow' else ''}"
        lines.append(
            f"client {each['name']} {each['group']} {role} from {each['peer']} at {each['listener']}: "
            f"{each['outstanding']} outstanding, {each['answered']} answered, {each['late']} late, {each['lost']} lost"
        )
    return "\n".join([*lines, f"{len(clients)} policy clients"])


# The server


async def _overview(console: ConsoleCommands, _arguments: list[str]) -> ConsoleResponse:
    value = await console.overview()
    return ConsoleResponse(f"{value['sessions_total']} sessions; triosmtp top shows the rest", value)


async def _shutdown(console: ConsoleCommands, _arguments: list[str]) -> ConsoleResponse:
    console.shut_down()
    return ConsoleResponse("draining: transactions under way are finished, then the server ends")


async def _version(_console: ConsoleCommands, _arguments: list[str]) -> ConsoleResponse:
    found = versions()
    return ConsoleResponse("\n".join(f"{name} {version}" for name, version in found.items()), found)


async def _help(_console: ConsoleCommands, _arguments: list[str]) -> ConsoleResponse:
    commands = list(_COMMANDS.values())
    width = max(len(command.usage) for command in commands)
    text = "\n".join(f"{command.usage.ljust(width)}  {command.doc}" for command in commands)
    return ConsoleResponse(text, [{"usage": command.usage, "doc": command.doc} for command in commands])


# The table


@frozen(slots=True)
class _Command:
    run: Callable[[ConsoleCommands, list[str]], Awaitable[ConsoleResponse]] = field(repr=False)
    usage: str
    doc: str
    takes_arguments: bool = False


_SCOPE: Final = "[SCOPE…]"
_COMMANDS: Final[dict[tuple[str, ...], _Command]] = {
    tuple(word for word in command.usage.split(" ") if word.isalpha() and word.islower()): command
    for command in (
        _Command(_config_reload, "config reload", "read the configuration again; an error changes nothing"),
        _Command(_config_show, f"config show {_SCOPE}", "options that are set in a scope", takes_arguments=True),
        _Command(
            _config_showrecurse,
            f"config showrecurse {_SCOPE}",
            "options that are set in a scope and its sub-scopes",
            takes_arguments=True,
        ),
        _Command(_config_get, f"config get {_SCOPE} OPTION", "an option as set in that scope", takes_arguments=True),
        _Command(
            _config_eval,
            f"config eval {_SCOPE} [OPTION] [--local ADDRESS] [--peer ADDRESS]",
            "an option as it is in force, and where it is set",
            takes_arguments=True,
        ),
        _Command(_show_inbound, "show inbound", "sessions under way"),
        _Command(_show_policy, "show policy", "groups of deciders, and all policy clients"),
        _Command(_tls_show, "tls show cache", "TLS contexts in force or in use"),
        _Command(_tls_flush, "tls flush cache", "read certificates again; a file with an error changes nothing"),
        _Command(_overview, "overview", "the data of triosmtp top, as JSON"),
        _Command(_shutdown, "shutdown", "finish transactions under way, then end"),
        _Command(_version, "version", "versions of triosmtp, Python, Trio and OpenSSL"),
        _Command(_help, "help", "this list"),
    )
}
"""The commands, by the lower-case words at their beginning."""
