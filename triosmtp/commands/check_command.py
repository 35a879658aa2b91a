"""The command ``triosmtp check``: a configuration with all that it names, such as certificates and policies."""

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from triosmtp.auth import PasswordFile
from triosmtp.config import (
    Config,
    Listen,
    LogFile,
    ServerName,
    Settings,
    UnixAddress,
    examine_config,
    problem_at,
    resolution,
)
from triosmtp.config.tls_check import PAIRED, pairing_errors
from triosmtp.daemon.config_warnings import config_warnings, extension_warnings
from triosmtp.errors import ConfigError, Problem, Severity, UnknownNameError
from triosmtp.lazy_import import defer_import
from triosmtp.server.profile import Profile, Profiles
from triosmtp.server.tls_contexts import material_problem, material_problems, tls_settings
from triosmtp.tls import MaterialError, TLSSettings

__all__ = ["check_command", "check_config"]

_EX_CONFIG: Final = 78
_SYSTEMD_PARENTS: Final = (Path("/run"), Path("/var/log"), Path("/var/lib"))
"""Folders in which systemd creates RuntimeDirectory=, LogsDirectory= and StateDirectory= when it starts a unit."""


def check_command(path: str, *, strict: bool, connect: bool = False) -> int:
    """Check the configuration at ``path`` and print what is wrong; with ``connect``, ask its targets, too.

    Return the exit status: 0; 78 if there is an error; 1 if there is a warning and ``strict`` is set.
    """
    config, found = examine_config(path)
    problems = [*found, *(() if config is None else check_config(config))]
    if connect and config is not None and not any(each.severity is Severity.ERROR for each in problems):
        problems += trio.run(_ask_targets, config)
    for problem in problems:
        print(problem, file=sys.stderr)
    if any(problem.severity is Severity.ERROR for problem in problems):
        return _EX_CONFIG
    print("Configuration valid")
    return 1 if strict and problems else 0


def check_config(config: Config) -> list[Problem]:
    """Read everything that ``config`` names and that a server would need.

    Return errors (the server would not start) and warnings, each with its position.  If ``config`` itself has errors,
    leave out warnings, and problems that may only follow from these errors.
    """
    broken = any(problem.severity is Severity.ERROR for problem in config.warnings)
    problems: list[Problem] = []
    for check in _checks(config):
        with _reported(problems, broken=broken):
            check(config)
    with _reported(problems, broken=broken):
        made = Profiles(config, "localhost")
        profiles = made.prepare()
        if made.script_set is not None:
            from triosmtp.server.scripts import script_warnings  # noqa: PLC0415 - only if there are scripts

            problems += script_warnings(config, made.script_set)
        problems += _skipped_lines(profiles)
        for profile in profiles:
            problems += extension_warnings(profile.settings, profile.routing.default[0].delivery)
    for listen in config.listens:
        for chain, settings in config.resolver(listen.block).variants().items():
            if broken and not _files_are_known(chain, settings):
                problems += _cipher_problems(settings)
            else:
                problems += _certificate_problems(settings, config.server_names(listen))
    problems += _path_problems(config)
    if broken:
        return list(dict.fromkeys(problem for problem in problems if problem.severity is Severity.ERROR))
    return list(dict.fromkeys(problems + config_warnings(config)))


@contextmanager
def _reported(problems: list[Problem], *, broken: bool) -> Iterator[None]:
    """Add the problems of a part.  In a configuration with errors, names without a scope are among them already."""
    try:
        yield
    except ConfigError as error:
        problems += error.problems
    except UnknownNameError:
        if not broken:
            raise


async def _ask_targets(config: Config) -> tuple[Problem, ...]:
    """Ask each target whether it is available, and whether it keeps what it accepts; and what Consumers need."""
    problems: tuple[Problem, ...] = ()
    if config.consumers:
        from triosmtp.commands.consume import ask_consumers  # noqa: PLC0415 - imports the deliveries

        problems = await ask_consumers(config)
    profiles = Profiles(config, "localhost")
    profiles.prepare()
    try:
        await profiles.targets.check(connect=True)
    except ConfigError as error:
        problems += tuple(error.problems)
    finally:
        with trio.CancelScope(shield=True):
            await profiles.aclose()
    return problems


def _checks(config: Config) -> Iterator[Callable[[Config], object]]:
    """Yield the checks of the parts that are configured; each imports only what it needs."""
    if config.policy_listens:
        from triosmtp.server.policy_endpoint import read_policy_endpoints  # noqa: PLC0415 - imports the policy service

        yield read_policy_endpoints
    if config.base.mock_credentials_file is not None:
        from triosmtp.server.startup import read_mock_key  # noqa: PLC0415 - few need it

        yield read_mock_key
    if config.base.limits_store is not None:
        from triosmtp.server.limits_store import check_limits_store  # noqa: PLC0415 - few need it

        yield check_limits_store
    if config.status_listens:
        from triosmtp.status.status_listener import read_access_rules  # noqa: PLC0415 - imports an HTTP server

        yield read_access_rules
    if config.base.publish_events is not None:
        from triosmtp.server.published_events import make_event_publisher  # noqa: PLC0415 - imports nats-py

        yield make_event_publisher
    if config.consumers:
        from triosmtp.commands.consume import check_consumers  # noqa: PLC0415 - imports the deliveries

        yield check_consumers
    if config.security is not None:
        from triosmtp.daemon.privileges import find_identity  # noqa: PLC0415 - imports ctypes

        yield find_identity


_FILE_OPTIONS: Final = {
    "*", "tls_certificate", *PAIRED, "tls_client_ca", "tls_client_crl", "tls_verify_mode", "tls_dhparams_file",
}  # fmt: skip


def _files_are_known(chain: resolution.ScopeChain, settings: Settings) -> bool:
    """Return whether the files of TLS are known in spite of the errors of the configuration."""
    blocks = [*chain, *(name for block in chain for name in block.of_kind("Server_Name"))]
    unknown = {each for block in blocks for each in block.unknown}
    return unknown.isdisjoint(_FILE_OPTIONS) and not any(pairing_errors("", settings))


def _cipher_problems(settings: Settings) -> list[Problem]:
    from triosmtp.tls.cipher import check_ciphers  # noqa: PLC0415 - imports OpenSSL
    from triosmtp.tls.key_exchange_groups import check_groups  # noqa: PLC0415 - as above

    try:
        check_ciphers(settings.tls_ciphers, settings.tlsv13_ciphersuites)
        check_groups(settings.tls_ec_curve_names)
    except MaterialError as error:
        return [material_problem(settings, (), error)]
    return []


def _skipped_lines(profiles: Iterable[Profile]) -> list[Problem]:
    """Return the lines of files of passwords and recipients that are skipped, each once."""
    found: dict[str, Problem] = {}
    for profile in profiles:
        for field, file in profile.sasl.files():
            for fault in file.faults if isinstance(file, PasswordFile) else ():
                found.setdefault(fault, problem_at(profile.settings, field, fault))
        for recipients in profile.recipients.every_file() if profile.recipients is not None else ():
            for fault in recipients.faults:
                found.setdefault(fault, problem_at(profile.settings, "known_recipients", fault, Severity.WARNING))
    return list(found.values())


def _path_problems(config: Config) -> list[Problem]:
    """Check that log files and Unix sockets can be created in their folders."""
    problems = []
    for log in config.logs:
        if log.name == "syslog":
            from triosmtp.logs.syslog import open_syslog  # noqa: PLC0415 - imports the event log

            opened = open_syslog(log)
            if isinstance(opened, Problem):
                problems.append(opened)
            else:
                opened.close()
        elif log.path is not None:
            problems += _place_problems(log, f'Log "{log.name}": {log.path}', log.path)
    listens = (*config.listens, *config.control_listens, *config.policy_listens, *config.status_listens)
    for listen in listens:
        if isinstance(listen.address, UnixAddress):
            problems += _place_problems(listen, f'Listen "{listen.name}"', Path(listen.address.path))
    return problems


def _place_problems(scope: LogFile | Listen, what: str, path: Path) -> list[Problem]:
    try:
        return _folder_problems(scope, what, path)
    except PermissionError as error:
        text = f"{what}: {error.filename}: {error.strerror}; is triosmtp check run by another user than the server?"
        return [scope.problem(text, Severity.WARNING)]


def _folder_problems(scope: LogFile | Listen, what: str, path: Path) -> list[Problem]:
    if isinstance(scope, LogFile) and path.is_dir():
        return [scope.problem(f"{what}: {os.strerror(errno.EISDIR)}")]
    if isinstance(scope, Listen) and path.exists() and not path.is_socket():
        return [scope.problem(f"{what}: {os.strerror(errno.EEXIST)}, and is not a socket")]
    folder = path.parent
    if folder.is_dir():
        return []
    if folder.parent in _SYSTEMD_PARENTS and not folder.exists():
        text = f"{what}: there is no folder {folder}; if systemd starts triosmtp, its unit must create it"
        return [scope.problem(text, Severity.WARNING)]
    number = errno.ENOTDIR if any(each.is_file() for each in path.parents) else errno.ENOENT
    return [scope.problem(f"{what}: {os.strerror(number)}")]


def _certificate_problems(settings: Settings, server_names: tuple[ServerName, ...]) -> list[Problem]:
    wanted = tls_settings(settings, server_names)
    return [] if wanted is None else _context_problems(wanted, settings, server_names)


def _context_problems(wanted: TLSSettings, settings: Settings, server_names: tuple[ServerName, ...]) -> list[Problem]:
    defer_import("cryptography.x509")  # pyOpenSSL imports it for functions that are not called here
    from triosmtp.tls import build_context, load_material  # noqa: PLC0415 - imports OpenSSL
    from triosmtp.x509.public_authority import public_authorities  # noqa: PLC0415 - as above

    try:
        material = load_material(wanted)
        context = build_context(material)
    except MaterialError as error:
        return material_problems(settings, server_names, error)
    problems = [material_problem(settings, server_names, warning, Severity.WARNING) for warning in context.warnings]
    relays = settings.tls_verified_peer_can_relay and not settings.tls_relay_clients
    public = public_authorities(material.authorities) if relays or settings.tls_require_verified else ()
    if public and relays:
        problems.append(_public_authority_warning(settings, public, "TLS_Verified_Peer_Can_Relay", "relay"))
    if public and settings.tls_require_verified:
        problems.append(_public_authority_warning(settings, public, "TLS_Require_Verified", "send"))
    return problems


def _public_authority_warning(settings: Settings, public: Sequence[str], option: str, action: str) -> Problem:
    """Return the warning that everybody can get a certificate that permits ``action``."""
    text = (
        f'"{settings.tls_client_ca}": DANGER: holds {len(public)} public '
        f"{'authority' if len(public) == 1 else 'authorities'} (the first: {public[0]}), and "
        f"{option} is true: every holder of a certificate from them may {action}. "
        f"{'Name the clients in TLS_Relay_Clients, or trust' if action == 'relay' else 'Trust'} only an authority of "
        "your own"
    )
    return problem_at(settings, "tls_client_ca", text, Severity.WARNING)
