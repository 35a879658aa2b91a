"""Warnings about a configuration that is valid but probably not what the operator means.

They are printed by ``triosmtp check``, at start and at each reload.
"""

import os
from pathlib import Path

from triosmtp import auth  # its names are imported at their first use: most configurations have no AUTH
from triosmtp.auth import AuthFileError, MockKey, PasswordFile
from triosmtp.config import Config, Settings, problem_at
from triosmtp.daemon.target_warnings import target_warnings
from triosmtp.delivery import Delivery, SecretFile, parse_delivery
from triosmtp.errors import Problem, Severity
from triosmtp.filesystem import is_tmpfs, is_visible, state_directory
from triosmtp.policy import Chain
from triosmtp.server.client_list import DomainList
from triosmtp.server.profile import unhonoured
from triosmtp.server.sasl_config import CredentialSource, SaslConfig, build_sasl_config
from triosmtp.server.target_set import default_maildir

__all__ = ["config_warnings", "extension_warnings"]

_OF_RECIPIENTS = frozenset({"known_recipients", "recipients_fold_case"})


def config_warnings(config: Config) -> list[Problem]:
    """Return warnings about ``config``.  Reads files of passwords and tokens, and blocks."""
    warnings: list[Problem] = []
    for listen in config.listens:
        settings = config.resolve(listen, None)
        for field, open_to_all in (
            ("open_relay", settings.open_relay),
            ("relay_domains", "*" in settings.relay_domains),
            ("relay_for_sending_domains", "*" in settings.relay_for_sending_domains),
        ):
            if open_to_all:
                warnings.append(problem_at(settings, field, "open relay: every client may relay", Severity.WARNING))
        if not (settings.relay_domains or settings.open_relay):
            text = f'Listen "{listen.name}": no Relay_Domains: only postmaster and trusted peers are accepted'
            warnings.append(listen.problem(text, Severity.WARNING))
        if not settings.deliver_to:
            text = f'Listen "{listen.name}": no Deliver_To: mail goes to {default_maildir()}'
            warnings.append(listen.problem(text, Severity.WARNING))
        warnings += _auth_warnings(settings, scripted=config.scripts is not None)
        targets = [config.target(name) for name in settings.deliver_to]
        specifications = [str(target.addresses[0]) for target in targets] or [f"maildir:{default_maildir()}"]
        for specification in specifications:
            warnings += _delivery_warnings(settings, specification)
            if specification.startswith(("maildir:", "discard:")):  # the check command makes others, and then knows
                warnings += extension_warnings(settings, parse_delivery(specification))
        spool = settings.spool_directory or state_directory() / "spool"
        if is_tmpfs(spool):
            warnings.append(problem_at(settings, "spool_directory", f"{spool} is in memory (tmpfs)", Severity.WARNING))
        remote = [policy for policy in settings.policy if policy.startswith("websocket:")]
        if remote and not config.policy_listens:
            text = f'"{remote[0]}": no Policy_Listener for its deciders to connect to: Policy_Fallback decides'
            warnings.append(problem_at(settings, "policy", text, Severity.WARNING))
    others = target_warnings(config) + _secret_warnings(config) + _domain_warnings(config) + _token_warnings(config)
    return list(dict.fromkeys(warnings + others))


def extension_warnings(settings: Settings, delivery: Delivery) -> list[Problem]:
    """Warn of extensions that are configured, but not offered because ``delivery`` does not support them."""
    return [
        problem_at(
            settings,
            "smtp_extensions",
            f"{name} is not offered: {' and '.join(settings.deliver_to) or 'a Maildir'} does not support it",
            Severity.WARNING,
        )
        for name in unhonoured(settings, delivery)
    ]


def _token_warnings(config: Config) -> list[Problem]:
    if not (config.policy_listens or config.status_listens):
        return []
    from triosmtp.server.policy_endpoint import token_warnings  # noqa: PLC0415 - imports the policy service

    return token_warnings(config)


def _secret_warnings(config: Config) -> list[Problem]:
    """Warn of files with secrets of Delivery and Filter scopes that others can read or change."""
    problems = []
    of_filters = [each.settings for each in config.filters.values()]
    for settings in (*(each.settings for each in config.deliveries.values()), *of_filters):
        for field in ("auth_password_file", "secret_file", "credentials_file", "password_file"):
            path: Path | None = getattr(settings, field)
            exposure = "" if path is None else SecretFile(path).exposure
            if exposure:
                problems.append(problem_at(settings, field, exposure, Severity.WARNING))
    return problems


def _domain_warnings(config: Config) -> list[Problem]:
    """Warn of Domain scopes for which no mail is accepted."""
    relayed = [
        DomainList.from_patterns(each.relay_domains) for listen in config.listens for each in config.variants(listen)
    ]
    return [
        domain.problem(f'Domain "{domain.key}" has no effect: it is in no Relay_Domains', Severity.WARNING)
        for domain in config.domains
        if domain.fields <= _OF_RECIPIENTS and not any(domain.key.replace("*", "x", 1) in each for each in relayed)
    ]


def _auth_warnings(settings: Settings, *, scripted: bool) -> list[Problem]:
    """Warn of mechanisms that not all users can use, and of files of passwords that every local user can read.

    A policy or a script may decide about AUTH, which is known only after its import: so it counts as a source of
    passwords.
    """
    decides = scripted or bool(settings.policy)
    sasl = build_sasl_config(settings, Chain(), {}, MockKey())
    problems = [
        problem_at(settings, "smtp_extensions", f"AUTH {name} is not offered: {_missing(sasl, name)}", Severity.WARNING)
        for name in sasl.unbacked
        if not (decides and name in auth.PLAINTEXT)
    ]
    problems += [
        problem_at(settings, "smtp_extensions", text, Severity.WARNING)
        for name, store in sasl.stores.items()
        if not (store.has_other_authority or (decides and name in auth.PLAINTEXT))
        and (text := _unusable(name, store) if name != "EXTERNAL" else _unverifiable(settings))
    ]
    if settings.always_allow and not settings.always_deny and sasl.stores:
        text = "every client that authenticates may relay"
        problems.append(problem_at(settings, "always_allow", text, Severity.WARNING))
    for field, file in sasl.files():
        if isinstance(file, PasswordFile) and file.is_exposed:
            text = f'"{file}": DANGER: every local user can read these passwords: chmod o-r'
            problems.append(problem_at(settings, field, text, Severity.WARNING))
    return problems


def _missing(sasl: SaslConfig, name: str) -> str:
    if sasl.service is not None and name.endswith("-PLUS"):
        return "the protocol of the Auth_Service has no channel bindings"
    return "nothing to check it against"


def _unusable(name: str, store: CredentialSource) -> str:
    """Return a warning if the file of a mechanism holds passwords that the mechanism cannot use."""
    if store.file is None:
        return ""
    try:
        store.file.check()
    except AuthFileError:
        return ""  # reported as an error
    served, users = store.served_by(name), store.file.users
    if not served:
        return f'AUTH {name} is not offered: it can use no password of "{store.file}"'
    return f'AUTH {name}: only {served} of {users} users of "{store.file}" can use it' if served < users else ""


def _unverifiable(settings: Settings) -> str:
    if settings.tls_client_ca is not None and settings.tls_verify_mode != "none":
        return ""
    return "AUTH EXTERNAL is never offered: no client certificate verifies without TLS_Client_CA"


def _delivery_warnings(settings: Settings, specification: str) -> list[Problem]:
    scheme, _, path = specification.partition(":")
    if scheme != "maildir":
        return []
    folder = Path(path)
    while not is_visible(folder) and folder != folder.parent:
        folder = folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return []
    return [
        problem_at(settings, "deliver_to", f"{folder} cannot be written: mail will be answered 452", Severity.WARNING)
    ]
