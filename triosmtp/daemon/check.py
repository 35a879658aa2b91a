"""What can be told of a configuration before it is served: certificates, policies and deliveries are looked at."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from triosmtp.auth import PLAINTEXT, DecoyKey, PasswordFile, StoreError
from triosmtp.config import Config, Listen, LogFile, ServerName, Settings, UnixAddress, problem_at, resolution
from triosmtp.config.tls_check import PAIRED, pairing_errors
from triosmtp.daemon.privileges import find_identity
from triosmtp.delivery import Delivery, parse_delivery
from triosmtp.errors import ConfigError, Problem
from triosmtp.logs.syslog import open_syslog
from triosmtp.policy import Chain
from triosmtp.server.profile import (
    Profile,
    Profiles,
    default_maildir,
    material_problem,
    material_problems,
    tls_settings,
    unhonoured,
)
from triosmtp.server.relay import DomainList
from triosmtp.server.sasl import Store, build_sasl_config
from triosmtp.state import is_tmpfs, is_visible, state_directory
from triosmtp.tls import MaterialError, build_context, load_material, public_authorities
from triosmtp.tls.cipher import check_ciphers
from triosmtp.tls.group import check_groups

__all__ = ["deep_problems", "surprises"]

_OF_SYSTEMD: Final = (Path("/run"), Path("/var/log"), Path("/var/lib"))
"""Where RuntimeDirectory=, LogsDirectory= and StateDirectory= of a unit make folders as it starts."""


def deep_problems(config: Config) -> list[Problem]:
    """Look at everything that ``config`` names and would need to be served.

    Gives errors (it would not start) and warnings (it would surprise), each with its place; ``config`` itself was
    checked when it was loaded.  If it has errors, nothing is told that may only follow from them, and no surprises.
    """
    broken = any(problem.severity == "error" for problem in config.warnings)
    problems: list[Problem] = []
    for look in _looks(config):
        try:
            look(config)
        except ConfigError as error:
            problems += error.problems
    try:
        profiles = Profiles(config, "localhost").prepare()
        problems += _faults(profiles)
        for profile in profiles:
            problems += _unhonoured_problems(profile.settings, profile.delivery)
    except ConfigError as error:
        problems += error.problems
    for listen in config.listens:
        for chain, settings in config.resolver(listen.block).variants().items():
            if broken and not _files_are_known(chain, settings):
                problems += _cipher_problems(settings)
            else:
                problems += _certificate_problems(settings, config.server_names(listen))
    problems += _path_problems(config)
    if broken:
        return list(dict.fromkeys(problem for problem in problems if problem.severity == "error"))
    return list(dict.fromkeys(problems + surprises(config)))


def _looks(config: Config) -> Iterator[Callable[[Config], object]]:
    """Return what looks at a part of the configuration; what few have is imported if it is there."""
    if config.policy_listens:
        from triosmtp.server.policy_listener import read_policy_endpoints  # noqa: PLC0415 - imports the hub, and what serves its clients

        yield read_policy_endpoints
    if config.status_listens:
        from triosmtp.status.listener import read_accesses  # noqa: PLC0415 - imports what accepts connections

        yield read_accesses
    yield find_identity


def _token_problems(config: Config) -> list[Problem]:
    if not (config.policy_listens or config.status_listens):
        return []
    from triosmtp.server.policy_listener import token_warnings  # noqa: PLC0415 - as above

    return token_warnings(config)


_OF_FILES: Final = {
    "*", "tls_certificate", *PAIRED, "tls_client_ca", "tls_client_crl", "tls_verify_mode", "tls_dhparams_file",
}  # fmt: skip


def _files_are_known(chain: resolution.Chain, settings: Settings) -> bool:
    """Whether no error of the configuration keeps the files of TLS from being known."""
    blocks = [*chain, *(name for block in chain for name in block.of_kind("Server_Name"))]
    unknown = {each for block in blocks for each in block.unknown}
    return unknown.isdisjoint(_OF_FILES) and not any(pairing_errors("", settings))


def _cipher_problems(settings: Settings) -> list[Problem]:
    try:
        check_ciphers(settings.tls_ciphers, settings.tlsv13_ciphersuites)
        check_groups(settings.tls_ec_curve_names)
    except MaterialError as error:
        return [material_problem(settings, (), error)]
    return []


def _faults(profiles: Iterable[Profile]) -> list[Problem]:
    """Give the lines of files of passwords that are skipped, each once, whatever names its file."""
    found: dict[str, Problem] = {}
    for profile in profiles:
        for field, file in profile.sasl.files():
            for fault in file.faults if isinstance(file, PasswordFile) else ():
                found.setdefault(fault, problem_at(profile.settings, field, fault))
        for recipients in profile.recipients.every_file() if profile.recipients is not None else ():
            for fault in recipients.faults:
                found.setdefault(fault, problem_at(profile.settings, "known_recipients", fault, "warning"))
    return list(found.values())


def _path_problems(config: Config) -> list[Problem]:
    """Look whether files of logs and Unix sockets have a place where they can be made."""
    problems = []
    for log in config.logs:
        if log.name == "syslog":
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
        return _faults_of_place(scope, what, path)
    except PermissionError as error:
        text = f"{what}: {error.filename}: {error.strerror}; checked as another user than the one who will serve?"
        return [scope.problem(text, "warning")]


def _faults_of_place(scope: LogFile | Listen, what: str, path: Path) -> list[Problem]:
    if isinstance(scope, LogFile) and path.is_dir():
        return [scope.problem(f"{what}: {os.strerror(errno.EISDIR)}")]
    if isinstance(scope, Listen) and path.exists() and not path.is_socket():
        return [scope.problem(f"{what}: {os.strerror(errno.EEXIST)}, and is not a socket")]
    folder = path.parent
    if folder.is_dir():
        return []
    if folder.parent in _OF_SYSTEMD and not folder.exists():
        text = f"{what}: there is no folder {folder}; where systemd starts triosmtp, its unit must make it"
        return [scope.problem(text, "warning")]
    number = errno.ENOTDIR if any(each.is_file() for each in path.parents) else errno.ENOENT
    return [scope.problem(f"{what}: {os.strerror(number)}")]


def _certificate_problems(settings: Settings, server_names: tuple[ServerName, ...]) -> list[Problem]:
    wanted = tls_settings(settings, server_names)
    if wanted is None:
        return []
    try:
        material = load_material(wanted)
        context = build_context(material)
    except MaterialError as error:
        return material_problems(settings, server_names, error)
    problems = [material_problem(settings, server_names, warning, "warning") for warning in context.warnings]
    relays = settings.tls_verified_peer_can_relay and not settings.tls_relay_clients
    public = public_authorities(material.authorities) if relays or settings.tls_require_verified else ()
    if public and relays:
        problems.append(_anybody_may(settings, public, "TLS_Verified_Peer_Can_Relay", "relay"))
    if public and settings.tls_require_verified:
        problems.append(_anybody_may(settings, public, "TLS_Require_Verified", "send"))
    return problems


def _anybody_may(settings: Settings, public: Sequence[str], option: str, what: str) -> Problem:
    """Return the warning that certificates that anybody can get are as good as a right."""
    text = (
        f'"{settings.tls_client_ca}": DANGER: holds {len(public)} public '
        f"{'authority' if len(public) == 1 else 'authorities'} (the first: {public[0]}), and "
        f"{option} is true: every holder of a certificate of theirs may {what}. "
        f"{'Name the clients in TLS_Relay_Clients, or trust' if what == 'relay' else 'Trust'} an authority of your own "
        "alone"
    )
    return problem_at(settings, "tls_client_ca", text, "warning")


def surprises(config: Config) -> list[Problem]:
    """Give warnings about what is not wrong, but is seldom meant."""
    warnings: list[Problem] = []
    for listen in config.listens:
        settings = config.resolve(listen, None)
        for field, open_to_all in (
            ("open_relay", settings.open_relay),
            ("relay_domains", "*" in settings.relay_domains),
            ("relay_for_sending_domains", "*" in settings.relay_for_sending_domains),
        ):
            if open_to_all:
                warnings.append(problem_at(settings, field, "whoever connects may relay", "warning"))
        if not (settings.relay_domains or settings.open_relay):
            text = f'Listen "{listen.name}": no Relay_Domains: only postmaster and trusted peers are accepted'
            warnings.append(listen.problem(text, "warning"))
        if settings.deliver_to is None:
            text = f'Listen "{listen.name}": no Deliver_To: mail goes to {default_maildir()}'
            warnings.append(listen.problem(text, "warning"))
        warnings += _delivery_problems(settings)
        warnings += _auth_problems(settings)
        specification = settings.deliver_to or f"maildir:{default_maildir()}"
        if not specification.startswith("python:"):  # what that honours is known if it is imported, which check does
            warnings += _unhonoured_problems(settings, parse_delivery(specification))
        spool = settings.spool_directory or state_directory() / "spool"
        if is_tmpfs(spool):
            warnings.append(problem_at(settings, "spool_directory", f"{spool} is in memory (tmpfs)", "warning"))
        asked = [policy for policy in settings.policy if policy.startswith("websocket:")]
        if asked and not config.policy_listens:
            text = f'"{asked[0]}": no Policy_Listener lets its deciders in: Policy_Fallback decides'
            warnings.append(problem_at(settings, "policy", text, "warning"))
    return list(dict.fromkeys(warnings + _domain_problems(config) + _token_problems(config)))


def _domain_problems(config: Config) -> list[Problem]:
    """Warn of Domain scopes whose recipients nobody may send to."""
    relayed = [
        DomainList.from_patterns(each.relay_domains) for listen in config.listens for each in config.variants(listen)
    ]
    return [
        domain.problem(f'Domain "{domain.key}" has no effect: it is in no Relay_Domains', "warning")
        for domain in config.domains
        if not any(domain.key in each for each in relayed)
    ]


def _auth_problems(settings: Settings) -> list[Problem]:
    """Warn of mechanisms that nobody can use, or not everybody, and of files of passwords that everybody can read.

    Whether a policy decides about AUTH is known when it is there: then it may back what no file does.
    """
    sasl = build_sasl_config(settings, Chain(), {}, DecoyKey())
    problems = [
        problem_at(settings, "smtp_extensions", f"AUTH {name} is not offered: nothing to check it against", "warning")
        for name in sasl.unbacked
        if not (settings.policy and name in PLAINTEXT)
    ]
    problems += [
        problem_at(settings, "smtp_extensions", text, "warning")
        for name, store in sasl.stores.items()
        if not (store.otherwise or (settings.policy and name in PLAINTEXT))
        and (text := _unusable(name, store) if name != "EXTERNAL" else _unverifiable(settings))
    ]
    if settings.always_allow and not settings.always_deny and sasl.stores:
        problems.append(problem_at(settings, "always_allow", "whoever authenticates may relay", "warning"))
    for field, file in sasl.files():
        if isinstance(file, PasswordFile) and file.is_exposed:
            text = f'"{file}": DANGER: everybody can read these passwords: chmod o-r'
            problems.append(problem_at(settings, field, text, "warning"))
    return problems


def _unusable(name: str, store: Store) -> str:
    """Say whether the file of a mechanism holds passwords that it cannot use."""
    if store.file is None:
        return ""
    try:
        store.file.check()
    except StoreError:
        return ""  # which is an error, and told as such
    served, users = store.served_by(name), store.file.users
    if not served:
        return f'AUTH {name} is not offered: it can use no password of "{store.file}"'
    return f'AUTH {name}: only {served} of {users} users of "{store.file}" can use it' if served < users else ""


def _unverifiable(settings: Settings) -> str:
    if settings.tls_client_ca is not None and settings.tls_verify_mode != "none":
        return ""
    return "AUTH EXTERNAL is never offered: no client certificate verifies without TLS_Client_CA"


def _unhonoured_problems(settings: Settings, delivery: Delivery) -> list[Problem]:
    return [
        problem_at(
            settings,
            "smtp_extensions",
            f"{name} is not offered: {settings.deliver_to or 'a Maildir'} does not honour it",
            "warning",
        )
        for name in unhonoured(settings, delivery)
    ]


def _delivery_problems(settings: Settings) -> list[Problem]:
    scheme, _, path = (settings.deliver_to or f"maildir:{default_maildir()}").partition(":")
    if scheme != "maildir":
        return []
    folder = Path(path)
    while not is_visible(folder) and folder != folder.parent:
        folder = folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return []
    return [problem_at(settings, "deliver_to", f"{folder} cannot be written: mail will be answered 452", "warning")]
