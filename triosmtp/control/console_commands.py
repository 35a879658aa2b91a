"""The commands of the console, as the server carries them out: words in, an answer out."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import trio
from attrs import field, frozen

from triosmtp.config import Config
from triosmtp.control import config_query as question
from triosmtp.control.console_protocol import Answer
from triosmtp.errors import ConfigError, QueryError
from triosmtp.event import ConfigurationReloaded
from triosmtp.server.server import Server
from triosmtp.server.tls_report import TLSReport, tls_report
from triosmtp.version import versions

__all__ = ["Commands"]


@frozen(slots=True)
class Commands:
    """Carries out the commands on one server."""

    server: Server
    reload: Callable[[], Awaitable[tuple[ConfigurationReloaded, list[str]]]]
    """Reads the configuration again; gives its warnings, too."""
    shut_down: Callable[[], None]
    """Begins an orderly end."""
    overview: Callable[[], Awaitable[dict[str, Any]]]
    """Gives what an operator looks at."""

    async def run(self, words: Sequence[str]) -> Answer:
        """Carry out one command."""
        for length in (3, 2, 1):
            command = _COMMANDS.get(tuple(word.lower() for word in words[:length]))
            if command is not None and len(words) >= length:
                return await self._run(command, list(words[length:]))
        said = " ".join(words)[:80] or "nothing"
        return Answer(f"there is no command {said!r}; help tells what there is", status=64)

    async def _run(self, command: "_Command", rest: list[str]) -> Answer:
        if rest and not command.arguments:
            return Answer(f"{command.usage} takes nothing behind it", status=64)
        try:
            return await command.run(self, rest)
        except question.NotSetError as error:
            return Answer(str(error), status=1)
        except QueryError as error:
            return Answer(str(error), status=64)
        except ConfigError as error:
            data = [
                {
                    "severity": problem.severity,
                    "message": problem.message,
                    "position": None if problem.position is None else str(problem.position),
                }
                for problem in error.problems
            ]
            return Answer(str(error), data, 78)

    # config

    async def _config_reload(self, _rest: list[str]) -> Answer:
        report, warnings = await self.reload()
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
        return Answer("\n".join(lines), data)

    async def _config_show(self, rest: list[str]) -> Answer:
        return _lines(question.config_show(self._config, rest))

    async def _config_showrecurse(self, rest: list[str]) -> Answer:
        return _lines(question.config_showrecurse(self._config, rest))

    async def _config_get(self, rest: list[str]) -> Answer:
        return _lines(question.config_get(self._config, rest))

    async def _config_eval(self, rest: list[str]) -> Answer:
        words, options = [], {"--local": "", "--peer": ""}
        pending = iter(rest)
        for word in pending:
            if word in options:
                options[word] = next(pending, "")
                if not options[word]:
                    raise QueryError(f"{word} needs an address")
            else:
                words.append(word)
        local, peer = options["--local"] or None, options["--peer"] or None
        return _lines(question.config_eval(self._config, words, local=local, peer=peer))

    @property
    def _config(self) -> Config:
        return self.server.service.config

    # show inbound

    async def _show_inbound(self, _rest: list[str]) -> Answer:
        host = self.server.service.host
        rows = [] if host is None else await host.inbound()
        return Answer(await trio.to_thread.run_sync(_session_table, rows), rows)

    # show policy

    async def _show_policy(self, _rest: list[str]) -> Answer:
        hub = self.server.service.hub
        data = {"groups": hub.groups(), "clients": hub.clients()}
        return Answer(_policy_text(data["groups"], data["clients"]), data)

    # tls

    async def _tls_show(self, _rest: list[str]) -> Answer:
        service, pool = self.server.service, self.server.pool
        if pool is None:
            report = await tls_report(service)
            text, rows = report.text, report.contexts
        else:
            reports: list[tuple[int, TLSReport]] = list(enumerate(await pool.gather("contexts"), 1))
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
            text += f"\nNOT taken since {each.since:%Y-%m-%d %H:%M:%S} UTC: {each.error}; what is in force stands above"
        if not service.config.base.tls_watch:
            text += "\nThe files are not watched (TLS_Watch = false)"
        generation = service.contexts.generation
        return Answer(text.lstrip("\n"), {"generation": generation, "contexts": rows, "problems": problems})

    async def _tls_flush(self, _rest: list[str]) -> Answer:
        outcome = await self.server.reload_certificates(reason="console")
        problems = list(dict.fromkeys(str(each.error) for each in outcome.problems.values()))
        renewed = len(outcome.renewed)
        if problems:
            text = "\n".join(f"NOT taken: {problem}" for problem in problems)
        else:
            text = f"{renewed} TLS contexts made anew" if renewed else "the files are those in force"
        data = {"generation": outcome.generation, "renewed": renewed, "problems": problems}
        return Answer(text, data, 78 if problems else 0)

    # the rest

    async def _overview(self, _rest: list[str]) -> Answer:
        value = await self.overview()
        return Answer(f"{value['sessions_total']} sessions; triosmtp top shows the rest", value)

    async def _shutdown(self, _rest: list[str]) -> Answer:
        self.shut_down()
        return Answer("messages under way are finished, then the server ends")

    async def _version(self, _rest: list[str]) -> Answer:
        found = versions()
        return Answer("\n".join(f"{name} {version}" for name, version in found.items()), found)

    async def _help(self, _rest: list[str]) -> Answer:
        commands = list(_COMMANDS.values())
        width = max(len(command.usage) for command in commands)
        text = "\n".join(f"{command.usage.ljust(width)}  {command.doc}" for command in commands)
        return Answer(text, [{"usage": command.usage, "doc": command.doc} for command in commands])


def _lines(lines: list[str]) -> Answer:
    return Answer("\n".join(lines), lines)


# Sessions


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


# The table


@frozen(slots=True)
class _Command:
    run: Callable[[Commands, list[str]], Awaitable[Answer]] = field(repr=False)
    usage: str
    doc: str
    arguments: bool = False


_SCOPE: Final = "[SCOPE…]"

_COMMANDS: Final[dict[tuple[str, ...], _Command]] = {
    tuple(word for word in command.usage.split(" ") if word.isalpha() and word.islower()): command
    for command in (
        _Command(Commands._config_reload, "config reload", "read the configuration again; an error changes nothing"),
        _Command(Commands._config_show, f"config show {_SCOPE}", "what is set in a scope", arguments=True),
        _Command(
            Commands._config_showrecurse,
            f"config showrecurse {_SCOPE}",
            "what is set in a scope and its sub-scopes",
            arguments=True,
        ),
        _Command(Commands._config_get, f"config get {_SCOPE} OPTION", "an option in that scope alone", arguments=True),
        _Command(
            Commands._config_eval,
            f"config eval {_SCOPE} [OPTION] [--local ADDRESS] [--peer ADDRESS]",
            "an option as it is in force there, and where it was set",
            arguments=True,
        ),
        _Command(Commands._show_inbound, "show inbound", "the sessions under way"),
        _Command(Commands._show_policy, "show policy", "the groups of deciders, and every policy client"),
        _Command(Commands._tls_show, "tls show cache", "the TLS contexts in force, and those still in use"),
        _Command(Commands._tls_flush, "tls flush cache", "read certificates again; what cannot be used is not taken"),
        _Command(Commands._overview, "overview", "what triosmtp top shows, as JSON"),
        _Command(Commands._shutdown, "shutdown", "finish the messages under way, then end"),
        _Command(Commands._version, "version", "versions of triosmtp, Python, Trio and OpenSSL"),
        _Command(Commands._help, "help", "this list"),
    )
}
