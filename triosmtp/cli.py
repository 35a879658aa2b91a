"""The commands of `triosmtp`: their arguments and their output.  Other packages do the work.

Exit codes::

    0    success
    1    the answer is no: `check --strict` has a warning, `config get` finds no value, `tls check` finds an error,
         `probe` finds no TLS, `policy replay` or `policy lua` finds a difference
    2    `probe --ca`: the chain does not verify; `probe --expires-within`: a certificate expires too soon
    64   the command is wrong (sysexits.h, as are the next two)
    69   the running server cannot be reached
    78   the configuration cannot be used
"""

import argparse
import gc
import json
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from triosmtp.errors import ConfigError, Problem, QueryError
from triosmtp.lazy_import import defer_import

if TYPE_CHECKING:
    from triosmtp.commands.policy_command import PolicyServerAddress
    from triosmtp.config import Config

__all__ = ["command_parser", "main"]

EXIT_USAGE = 64
EXIT_CONFIG = 78

PASSWORD_SCHEMES = ("argon2id", "scrypt", "pbkdf2-sha256", "scram-sha-256", "cleartext")
"""Those of :data:`triosmtp.auth.SCHEMES`, and none.  Written out: importing that module takes 0.1 s."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        code = _run(command_parser().parse_args(argv))
        if sys.stdout is not None:  # as under `>&-`
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output has closed it.  The interpreter flushes once more at its end: to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    return code


def _run(arguments: argparse.Namespace) -> int:
    try:
        code: int = arguments.run(arguments)
    except ConfigError as error:
        _print_problems(error.problems)
        return EXIT_CONFIG
    except QueryError as error:
        print(f"triosmtp: {error}", file=sys.stderr)
        return EXIT_USAGE
    return code


def _print_problems(problems: Iterable[Problem]) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)


# Words


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(_version())
        parser.exit()


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; the man page and the shell completions are made from it."""
    parser = _Parser(prog="triosmtp", description="An SMTP listener whose centre is inbound TLS.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print versions and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the server", allow_abbrev=False)
    serve.add_argument(
        "-c", dest="file", metavar="FILE", help="the configuration; the default is an embedded one on loopback"
    )
    serve.add_argument("--control", metavar="PATH", help="the control socket; replaces those of the configuration")
    serve.set_defaults(run=_serve)
    check = commands.add_parser(
        "check", help="check a configuration with its files and certificates", allow_abbrev=False
    )
    _add_file(check)
    check.add_argument("--strict", action="store_true", help="exit status 1 if there is a warning")
    check.add_argument("--connect", action="store_true", help="connect to the targets of mail, and ask them, too")
    check.set_defaults(run=_check)
    _add_file(consume := commands.add_parser("consume", help="deliver the mail of a stream", allow_abbrev=False))
    consume.set_defaults(run=lambda a: import_module("triosmtp.commands.consume").consume_command(_load(a.file)))
    reload = commands.add_parser("reload", help="reload the configuration of a running server", allow_abbrev=False)
    _add_control(reload)
    reload.set_defaults(run=_reload)
    console = commands.add_parser("console", help="send commands to a running server", allow_abbrev=False)
    _add_control(console)
    console.add_argument("--json", action="store_true", help="print responses as JSON, one on each line")
    console.add_argument(
        "words", nargs="*", metavar="COMMAND", help="a command, see help; the default is to read commands from stdin"
    )
    console.set_defaults(run=_console)
    top = commands.add_parser("top", help="show the overview of a running server in the terminal", allow_abbrev=False)
    _add_control(top)
    top.add_argument("--once", action="store_true", help="print one screen and end")
    top.add_argument(
        "--interval", type=_interval, default=2.0, metavar="SECONDS", help="time between updates (default 2)"
    )
    top.set_defaults(run=_top)
    _add_config_commands(commands.add_parser("config", help="query a configuration", allow_abbrev=False))
    _add_tls_commands(commands.add_parser("tls", help="show and check the TLS configuration", allow_abbrev=False))
    _add_policy_commands(commands.add_parser("policy", help="watch, record and replay sessions", allow_abbrev=False))
    _add_passwd(commands.add_parser("passwd", help="edit a file of passwords for AUTH", allow_abbrev=False))
    examples = commands.add_parser("examples", help="copy the examples into a folder", allow_abbrev=False)
    examples.add_argument("folder", metavar="PATH", help="a folder that is empty or does not exist")
    examples.set_defaults(run=_examples)
    _add_probe(commands.add_parser("probe", help="show what an SMTP server presents in TLS", allow_abbrev=False))
    return parser


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", dest="file", metavar="FILE", required=True, help="the configuration")


def _add_control(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--control", metavar="PATH", help="the server's control socket")
    where.add_argument("-c", dest="file", metavar="FILE", help="the configuration with the Control_Listener")


def _add_passwd(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="FILE", help="the file; created with mode 0600 if it is missing")
    parser.add_argument("user", metavar="USER", nargs="?", help="the user to set or delete")
    parser.add_argument(
        "--scheme", choices=PASSWORD_SCHEMES, default=PASSWORD_SCHEMES[0], help="the scheme of the stored password"
    )
    parser.add_argument("--stdin", action="store_true", help="read the password from stdin, one line")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--delete", action="store_true", help="remove the user")
    action.add_argument("--list", action="store_true", help="list the users and their schemes")
    parser.set_defaults(run=_passwd)


def _passwd(arguments: argparse.Namespace) -> int:
    from triosmtp.commands.passwd import passwd_command  # noqa: PLC0415 - as above

    return passwd_command(
        Path(arguments.path),
        arguments.user,
        scheme=arguments.scheme,
        from_stdin=arguments.stdin,
        delete=arguments.delete,
        list_users=arguments.list,
    )


def _add_tls_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show_ = commands.add_parser("show", help="show contexts: certificates, versions, ciphers, connections")
    show_.set_defaults(run=_tls_show)
    check = commands.add_parser("check", help="find faults that clients would meet; exit status 1 on errors")
    check.add_argument("--ca", metavar="PEM", help="the only authorities of clients; the default is the system's")
    check.set_defaults(run=_tls_check)
    tlsa = commands.add_parser("tlsa", help="print DANE records 3 1 1 of the certificates")
    tlsa.add_argument("--next", metavar="PEM", action="append", default=[], help="a future key, or its certificate")
    tlsa.add_argument(
        "--port", type=_port, metavar="PORT", help="the port of clients; the default is that of the Listens"
    )
    hosts = "a name in an MX record; the default is each Banner_Hostname and Server_Name"
    tlsa.add_argument("hosts", metavar="HOST", nargs="*", help=hosts)
    tlsa.set_defaults(run=_tls_tlsa)
    which = show_.add_mutually_exclusive_group(required=True)
    which.add_argument("-c", dest="file", metavar="FILE", help="the configuration")
    which.add_argument("--running", action="store_true", help="the contexts of a running server")
    show_.add_argument("--control", metavar="PATH", help="with --running: the server's control socket")
    for command in (check, tlsa):
        _add_file(command)


def _add_policy_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    watch = commands.add_parser("watch", help="print events", allow_abbrev=False)
    watch.add_argument(
        "--filter", action="append", default=[], metavar="KEY=PATTERN", help="print only events that match all filters"
    )
    watch.add_argument("--credentials", metavar="FILE", help="the .creds file for NATS")
    record = commands.add_parser("record", help="record sessions for replay", allow_abbrev=False)
    record.add_argument(
        "-o", dest="output", metavar="FILE", required=True, help="the recording; new sessions are appended"
    )
    record.add_argument(
        "--bodies", action="store_true", help="record messages, too; needs the token of Admin_Token_File"
    )
    report = commands.add_parser("report", help="print decisions of shadow deciders that differ", allow_abbrev=False)
    for command, run in ((watch, _policy_watch), (record, _policy_record), (report, _policy_report)):
        command.set_defaults(run=run)
        where = command.add_mutually_exclusive_group(required=True)
        where.add_argument("-c", dest="file", metavar="FILE", help="the configuration with the Policy_Listener")
        urls = "ws://host:port/, wss://host:port/ or unix:/path"
        where.add_argument("--url", metavar="URL", help=urls + ("; nats://host/subject" if command is watch else ""))
        command.add_argument("--token-file", metavar="FILE", help="the file with the token")
    replay = commands.add_parser("replay", help="replay a recording to a decider", allow_abbrev=False)
    replay.add_argument("recording", metavar="FILE", help="a file of `policy record`")
    replay.add_argument("--listen", metavar="ADDR", required=True, help="where the decider connects to")
    replay.add_argument("--group", metavar="NAME", required=True, help="the group of the decider")
    replay.add_argument("--token-file", metavar="FILE", help="the file with the token of the decider")
    replay.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds to wait for the decider (default 60)"
    )
    replay.set_defaults(run=_policy_replay)
    lua = commands.add_parser("lua", help="run a script of Momentum against a recording", allow_abbrev=False)
    lua.add_argument("script", metavar="SCRIPT", help="the file of the script")
    lua.add_argument("recording", metavar="FILE", help="a file of `policy record`")
    lua.add_argument("--path", action="append", default=[], metavar="FOLDER", help="a folder with modules of scripts")
    lua.set_defaults(run=_policy_lua)
    for command in (watch, report, replay, lua):
        command.add_argument("--json", action="store_true", help="print JSON")


def _add_probe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="HOST[:PORT]", help="the default port is 25, or 465 with --tls")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--starttls",
        dest="mode",
        action="store_const",
        const="starttls",
        help="STARTTLS, the default except on port 465",
    )
    mode.add_argument("--tls", dest="mode", action="store_const", const="tls", help="TLS from the first byte")
    parser.add_argument("--cert", metavar="PEM", help="a client certificate; presented if the file also has its key")
    parser.add_argument(
        "--ca", metavar="PEM", help="the only authorities; exit status 2 if the server's chain does not verify"
    )
    within = "exit status 2 if a certificate of its chain expires within that many days"
    parser.add_argument("--expires-within", dest="days", type=_days, metavar="DAYS", help=within)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_probe)


def _add_config_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, doc in (
        ("show", "options that are set in a scope"),
        ("showrecurse", "options that are set in a scope and its sub-scopes"),
        ("get", "an option as set in that scope"),
        ("eval", "an option as it is in force, and where it is set"),
    ):
        command = commands.add_parser(name, help=doc, description=doc, allow_abbrev=False)
        _add_file(command)
        if name == "eval":
            command.add_argument("--local", metavar="ADDR", help="evaluate for a connection to this Listen or address")
            command.add_argument("--peer", metavar="ADDR", help="evaluate for a connection from this address")
        words = "as on the console: ESMTP_Listener Listen :25 Peer 10.0.0.1 Idle_Time"
        command.add_argument("words", nargs="*", metavar="SCOPE… OPTION", help=words)
        command.set_defaults(run=_config, query=name)
    options = commands.add_parser("options", help="list all options", allow_abbrev=False)
    options.add_argument("--json", action="store_true", help="print JSON")
    options.set_defaults(run=_options)


# Commands.  Each imports what it needs itself: importing the server takes far longer than most commands do.


def _load(file: str) -> "Config":
    from triosmtp.config import load_config  # noqa: PLC0415 - only commands with a configuration need it

    return load_config(file)


def _version() -> str:
    from triosmtp.version import versions  # noqa: PLC0415 - only this command needs it

    return "\n".join(f"{name} {version}" for name, version in versions().items())


def _serve(arguments: argparse.Namespace) -> int:
    from triosmtp.daemon.serve_command import serve_command  # noqa: PLC0415 - the other commands do not need the server

    return serve_command(arguments.file, arguments.control)


def _check(arguments: argparse.Namespace) -> int:
    gc.disable()  # a twentieth of this command: nearly all that it makes are modules and classes
    defer_import("trio")  # most configurations are checked without an event loop
    try:
        from triosmtp.commands.check_command import check_command  # noqa: PLC0415 - as above

        return check_command(arguments.file, strict=arguments.strict, connect=arguments.connect)
    finally:
        gc.enable()


def _tls_show(arguments: argparse.Namespace) -> int:
    if arguments.running:
        from triosmtp.control.console_client import run_command  # noqa: PLC0415 - the other commands do not need it

        return run_command(["tls", "show", "cache"], _control(arguments))
    from triosmtp.commands.tls_command import tls_show  # noqa: PLC0415 - the other commands do not need TLS

    return tls_show(_load(arguments.file))


def _tls_check(arguments: argparse.Namespace) -> int:
    from triosmtp.commands.tls_command import tls_check  # noqa: PLC0415 - as above

    return tls_check(_load(arguments.file), arguments.ca)


def _tls_tlsa(arguments: argparse.Namespace) -> int:
    from triosmtp.commands.tls_command import tls_tlsa  # noqa: PLC0415 - as above

    return tls_tlsa(_load(arguments.file), arguments.hosts, arguments.next, port=arguments.port)


def _probe(arguments: argparse.Namespace) -> int:
    from triosmtp.commands.probe import probe_command  # noqa: PLC0415 - as above

    return probe_command(
        arguments.target,
        arguments.mode,
        arguments.cert,
        bundle=arguments.ca,
        days=arguments.days,
        as_json=arguments.json,
    )


def _unreadable(error: Exception) -> str:
    return f"cannot read {error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)


def _endpoint(arguments: argparse.Namespace) -> "PolicyServerAddress":
    from triosmtp.commands.policy_command import find_endpoint  # noqa: PLC0415 - as above

    config = None if arguments.file is None else _load(arguments.file)
    try:
        return find_endpoint(config, arguments.url, arguments.token_file, admin=getattr(arguments, "bodies", False))
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"the token: {_unreadable(error)}") from None


def _policy_watch(arguments: argparse.Namespace) -> int:
    if (arguments.url or "").startswith("nats:"):
        return int(import_module("triosmtp.commands.watch_nats").watch_nats(arguments))
    from triosmtp.commands.policy_command import watch_command  # noqa: PLC0415 - as above

    return watch_command(_endpoint(arguments), arguments.filter, as_json=arguments.json)


def _policy_record(arguments: argparse.Namespace) -> int:
    from triosmtp.commands.policy_command import record_command  # noqa: PLC0415 - as above

    return record_command(_endpoint(arguments), Path(arguments.output), bodies=arguments.bodies)


def _policy_report(arguments: argparse.Namespace) -> int:
    from triosmtp.commands.policy_command import report_command  # noqa: PLC0415 - as above

    return report_command(_endpoint(arguments), as_json=arguments.json)


def _policy_replay(arguments: argparse.Namespace) -> int:
    from triosmtp.commands.policy_replay import replay_command  # noqa: PLC0415 - as above

    try:
        token = None if arguments.token_file is None else Path(arguments.token_file).read_text("ascii").strip()
        return replay_command(
            Path(arguments.recording),
            arguments.listen,
            arguments.group,
            token,
            seconds=arguments.timeout,
            as_json=arguments.json,
        )
    except (OSError, ValueError) as error:
        raise QueryError(_unreadable(error)) from None


def _policy_lua(arguments: argparse.Namespace) -> int:
    from triosmtp.commands.policy_lua import lua_command  # noqa: PLC0415 - as above

    return lua_command(Path(arguments.script), Path(arguments.recording), arguments.path, as_json=arguments.json)


def _config(arguments: argparse.Namespace) -> int:
    from triosmtp.control import config_query  # noqa: PLC0415 - as above

    config = _load(arguments.file)
    try:
        match arguments.query:
            case "show":
                lines = config_query.config_show(config, arguments.words)
            case "showrecurse":
                lines = config_query.config_showrecurse(config, arguments.words)
            case "get":
                lines = config_query.config_get(config, arguments.words)
            case _:
                lines = config_query.config_eval(config, arguments.words, local=arguments.local, peer=arguments.peer)
    except config_query.NotSetError as error:
        print(f"triosmtp: {error}", file=sys.stderr)
        return 1
    for line in lines:
        print(line)
    return 0


def _reload(arguments: argparse.Namespace) -> int:
    from triosmtp.control.console_client import run_command  # noqa: PLC0415 - as above

    return run_command(["config", "reload"], _control(arguments))


def _console(arguments: argparse.Namespace) -> int:
    from triosmtp.control.console_client import run_command, run_console  # noqa: PLC0415 - as above

    place = _control(arguments)
    if arguments.words:
        from triosmtp.control.console_protocol import split_words  # noqa: PLC0415 - as above

        # One word that holds all is how a shell quotes it; several are what it is without quotes.
        words = split_words(arguments.words[0]) if len(arguments.words) == 1 else arguments.words
        return run_command(words, place, as_json=arguments.json)
    return run_console(place, as_json=arguments.json)


def _examples(arguments: argparse.Namespace) -> int:
    from triosmtp.commands.examples import examples_command  # noqa: PLC0415 - as above

    return examples_command(Path(arguments.folder))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536):
        raise argparse.ArgumentTypeError("expected a port from 1 to 65535")
    return int(text)


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise argparse.ArgumentTypeError("expected a number of days")
    return int(text)


def _interval(text: str) -> float:
    seconds = float(text)
    if not 0.2 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("expected 0.2 to 3600 seconds")
    return seconds


def _top(arguments: argparse.Namespace) -> int:
    from triosmtp.commands.top import top_command  # noqa: PLC0415 - as above

    return top_command(_control(arguments), once=arguments.once, interval=arguments.interval)


def _control(arguments: argparse.Namespace) -> Path:
    from triosmtp.control.control_path import find_control_path  # noqa: PLC0415 - as above

    if arguments.control is not None:
        return Path(arguments.control)
    return find_control_path(None if arguments.file is None else _load(arguments.file))


def _options(arguments: argparse.Namespace) -> int:
    from triosmtp.config import OPTIONS  # noqa: PLC0415 - as above

    rows = [
        {
            "name": option.name,
            "type": option.type.name,
            "default": option.write_default(),
            "scopes": list(option.scopes),
            "reloadable": option.reloadable,
            "doc": option.doc,
        }
        for option in OPTIONS.values()
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    for option in OPTIONS.values():
        print(f"{option.name} = {option.write_default()}  ({option.type.name})")
        print(f"    {option.doc}\n    in: {', '.join(option.scopes)}")
    return 0
