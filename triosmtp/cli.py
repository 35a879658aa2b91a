"""The commands of `triosmtp`: what their words mean and what they print.  The work is done in the rooms below.

Exit codes are those of sysexits.h: 0, 64 for a command that makes no sense, 78 for a configuration that cannot be used.
1 is the answer no: of `config get` where the option is not set, of `tls check` where it found an error, of `probe`
where TLS did not come up.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from ipaddress import ip_address
from typing import NoReturn

from triosmtp.config import (
    OPTIONS,
    Config,
    Listen,
    QueryError,
    Settings,
    evaluate,
    find_query,
    get,
    load_config,
    show,
)
from triosmtp.errors import ConfigError, Problem

__all__ = ["main"]

EXIT_USAGE = 64
EXIT_CONFIG = 78


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    try:
        code = _run(_parser().parse_args(argv))
        if sys.stdout is not None:  # as under `>&-`
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has had enough.  The interpreter flushes once more at its end: to nowhere.
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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="triosmtp", description="An SMTP listener whose centre is inbound TLS.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="tell versions and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the server", allow_abbrev=False)
    serve.add_argument("-c", dest="file", metavar="FILE", help="the configuration; without it a default on loopback")
    serve.set_defaults(run=_serve)
    check = commands.add_parser("check", help="check a configuration, files and certificates too", allow_abbrev=False)
    _add_file(check)
    check.set_defaults(run=_check)
    _add_config_commands(commands.add_parser("config", help="ask a configuration", allow_abbrev=False))
    _add_tls_commands(commands.add_parser("tls", help="look at what TLS presents", allow_abbrev=False))
    _add_probe(commands.add_parser("probe", help="look at what any SMTP server presents", allow_abbrev=False))
    return parser


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", dest="file", metavar="FILE", required=True, help="the configuration")


def _add_tls_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show_ = commands.add_parser("show", help="every context: certificates, versions, ciphers, who uses it")
    show_.set_defaults(run=_tls_show)
    check = commands.add_parser("check", help="what clients would stumble over; status 1 on errors")
    check.add_argument("--ca", metavar="PEM", help="the only authorities that clients know; else the system's")
    check.set_defaults(run=_tls_check)
    tlsa = commands.add_parser("tlsa", help="DANE records 3 1 1 of the certificates in force")
    tlsa.add_argument("--next", metavar="PEM", action="append", default=[], help="a key to come, or its certificate")
    tlsa.set_defaults(run=_tls_tlsa)
    for command in (show_, check, tlsa):
        _add_file(command)


def _add_probe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="HOST[:PORT]", help="port 25, or 465 with --tls, where none is given")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--starttls", dest="mode", action="store_const", const="starttls", help="but on port 465, so")
    mode.add_argument("--tls", dest="mode", action="store_const", const="tls", help="TLS from the first byte")
    parser.add_argument("--cert", metavar="PEM", help="our certificate; presented where the file holds its key, too")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_probe)


def _add_config_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, doc in (
        ("show", _show, "what is set in a scope"),
        ("showrecurse", _showrecurse, "what is set in a scope and its sub-scopes"),
        ("get", _get, "an option in that scope alone"),
        ("eval", _eval, "an option as it is in force there, and where it was set"),
    ):
        command = commands.add_parser(name, help=doc, description=doc, allow_abbrev=False)
        _add_file(command)
        if name == "eval":
            command.add_argument("--local", metavar="ADDR", help="as for a connection to this Listen or address")
            command.add_argument("--peer", metavar="ADDR", help="as for a connection from this address")
        words = "as on the console: ESMTP_Listener Listen :25 Peer 10.0.0.1 Idle_Time"
        command.add_argument("words", nargs="*", metavar="SCOPE… OPTION", help=words)
        command.set_defaults(run=run)
    options = commands.add_parser("options", help="every option there is", allow_abbrev=False)
    options.add_argument("--json", action="store_true", help="as JSON")
    options.set_defaults(run=_options)


# Commands


def _version() -> str:
    from triosmtp.tls import openssl_version  # noqa: PLC0415 - only this command needs it

    try:
        version = metadata.version("triosmtp")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    trio_version = metadata.version("trio")
    return f"triosmtp {version}\nPython {platform.python_version()}\ntrio {trio_version}\n{openssl_version()}"


def _serve(arguments: argparse.Namespace) -> int:
    from triosmtp.daemon.run import serve_command  # noqa: PLC0415 - the other commands do not need the server

    return serve_command(arguments.file)


def _check(arguments: argparse.Namespace) -> int:
    from triosmtp.daemon.check import deep_problems  # noqa: PLC0415 - the other commands do not need the server

    config = load_config(arguments.file)
    problems = [*config.warnings, *deep_problems(config)]
    _print_problems(problems)
    if any(problem.severity == "error" for problem in problems):
        return EXIT_CONFIG
    print("Configuration valid")
    return 0


def _tls_show(arguments: argparse.Namespace) -> int:
    from triosmtp.daemon.tls_command import tls_show  # noqa: PLC0415 - the other commands do not need TLS

    return tls_show(load_config(arguments.file))


def _tls_check(arguments: argparse.Namespace) -> int:
    from triosmtp.daemon.tls_command import tls_check  # noqa: PLC0415 - as above

    return tls_check(load_config(arguments.file), arguments.ca)


def _tls_tlsa(arguments: argparse.Namespace) -> int:
    from triosmtp.daemon.tls_command import tls_tlsa  # noqa: PLC0415 - as above

    return tls_tlsa(load_config(arguments.file), arguments.next)


def _probe(arguments: argparse.Namespace) -> int:
    from triosmtp.daemon.probe import probe_command  # noqa: PLC0415 - as above

    return probe_command(arguments.target, arguments.mode, arguments.cert, as_json=arguments.json)


def _show(arguments: argparse.Namespace) -> int:
    query = find_query(load_config(arguments.file), arguments.words)
    block = query.own_block
    lines = show(block) if query.option is None else filter(None, [get(block, query.option)])
    print(*lines, sep="\n", end="\n" if block.assignments else "")
    return 0


def _showrecurse(arguments: argparse.Namespace) -> int:
    query = find_query(load_config(arguments.file), arguments.words)
    if query.option is not None:
        raise QueryError(f"showrecurse takes scopes alone, and {query.option.name} is an option")
    for line in show(query.own_block, recurse=True):
        print(line)
    return 0


def _get(arguments: argparse.Namespace) -> int:
    query = find_query(load_config(arguments.file), arguments.words)
    if query.option is None:
        raise QueryError("get takes the name of an option at its end")
    line = get(query.own_block, query.option)
    if line is None:
        print(f"triosmtp: {query.option.name} is not set in that scope", file=sys.stderr)
        return 1
    print(line)
    return 0


def _eval(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.file)
    query = find_query(config, arguments.words)
    if arguments.local is None and arguments.peer is None:
        settings = query.settings(config)
    elif query.block is config.root:
        settings = _connection_settings(config, arguments.local, arguments.peer)
    else:
        raise QueryError("with --local or --peer an option stands alone, without scopes")
    for line in evaluate(settings, query.option):
        print(line)
    return 0


def _connection_settings(config: Config, local: str | None, peer: str | None) -> Settings:
    listen = _listen(config, local)
    if peer is None:
        return config.resolve(listen, None)
    try:
        return config.resolve(listen, ip_address(peer.strip("[]")))
    except ValueError as error:
        raise QueryError(f"--peer: expected an address, found {peer!r}") from error


def _listen(config: Config, local: str | None) -> Listen:
    if local is None and len(config.listens) == 1:
        return config.listens[0]
    names = ", ".join(listen.name for listen in config.listens)
    if local is None:
        raise QueryError(f"--peer needs --local, one of: {names}")
    listen = config.find_listen(local)
    if listen is None:
        raise QueryError(f"--local: no Listen takes {local}; there is: {names}")
    return listen


def _options(arguments: argparse.Namespace) -> int:
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
        print(f"    {option.doc}")
        print(f"    in: {', '.join(option.scopes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
