"""The TLS contexts that a configuration needs: their settings, their making, and the problems of their files."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve, frozen

from triosmtp.config import Config, ServerName, Settings, problem_at
from triosmtp.errors import ConfigError, Problem, Severity
from triosmtp.tls import CertificateFiles, MaterialError, MaterialWarning, TLSSettings

if TYPE_CHECKING:
    from triosmtp.tls.context_store import ContextStore, Renewal

__all__ = [
    "NewContexts",
    "TLSUsers",
    "build_contexts",
    "material_problem",
    "material_problems",
    "preload_contexts",
    "tls_settings",
    "tls_users",
]

TLSUsers: TypeAlias = Mapping[TLSSettings, tuple[Settings, tuple[ServerName, ...]]]
"""Settings of TLS contexts, with the options that require each."""


def tls_settings(settings: Settings, server_names: Iterable[ServerName] = ()) -> TLSSettings | None:
    """Return the settings of the TLS context for ``settings``, or None without a certificate.

    ``server_names`` are those of the Listen.  They take precedence over the certificate of a Peer, too.
    """
    if not settings.tls_certificate:
        return None
    tls = TLSSettings(
        certificates=_certificates(settings),
        server_names=tuple((name.name, _certificates(name)) for name in server_names),
        request_certificate=_requests_certificate(settings),
        protocols=settings.tls_protocols,
        ciphers=settings.tls_ciphers,
        cipher_suites=settings.tlsv13_ciphersuites,
        groups=settings.tls_ec_curve_names,
        dhparams_file=settings.tls_dhparams_file,
        enable_dhe=settings.tls_enable_dhe_ciphers,
        allow_renegotiation=settings.tls_allow_renegotiation,
    )
    if not tls.request_certificate:
        return tls.shared()  # the same context for all, with any options of verification
    return evolve(
        tls,
        client_ca=settings.tls_client_ca,
        client_crls=settings.tls_client_crl,
        client_purpose=settings.tls_client_purpose,
        send_client_ca_names=settings.tls_send_client_ca_names,
        verify_depth=settings.tls_verify_depth,
    ).shared()


def tls_users(config: Config) -> TLSUsers:
    """Return the settings of every TLS context that connections of ``config`` can need.  Builds and reads nothing."""
    users: dict[TLSSettings, tuple[Settings, tuple[ServerName, ...]]] = {}
    for listen in config.listens:
        names = config.server_names(listen)
        for settings in config.variants(listen):
            tls = tls_settings(settings, names)
            if tls is not None:
                users.setdefault(tls, (settings, names))
    for listen in config.policy_listens:
        settings = config.resolve(listen, None)
        tls = tls_settings(settings)
        if tls is not None:
            users.setdefault(tls, (settings, ()))
    return users


@frozen(slots=True)
class NewContexts:
    """The contexts for a configuration.  They are not in force yet."""

    renewal: "Renewal"
    warnings: tuple[Problem, ...]
    """Warnings about files of new contexts, with their place in the configuration."""


def build_contexts(store: "ContextStore", users: TLSUsers, *, preloaded: Collection[TLSSettings] = ()) -> NewContexts:
    """Read certificates and keys, and build the contexts of ``users`` that ``store`` does not have.  Blocking.

    A context in ``store`` is kept if its settings are still used.  A context with ``preloaded`` settings is kept even
    if its files cannot be read now.

    :raises ConfigError: with a problem for each file that cannot be used, with its place in the configuration.
    """
    from triosmtp.tls.context_store import Renewal, renew  # noqa: PLC0415 - imports OpenSSL, not needed by all commands

    known = {context.material.settings: context for context in store.contexts()}
    renewal = renew(store, users)
    problems = [
        found
        for settings, problem in renewal.problems.items()
        if settings not in preloaded
        for found in material_problems(*users[settings], problem.error)
    ]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    warnings: dict[str, Problem] = {}  # contexts may share a file: warn once
    for settings, found in renewal.renewed.items():
        for warning in found if settings not in known else ():
            warnings.setdefault(str(warning), material_problem(*users[settings], warning, Severity.WARNING))
    in_force = {settings: known.get(settings, context) for settings, context in renewal.contexts.items()}
    adopted = Renewal(contexts=in_force, renewed={}, problems={}, news=frozenset(), changed={})
    return NewContexts(adopted, tuple(warnings.values()))


def preload_contexts(users: TLSUsers) -> "tuple[ContextStore, list[Problem]]":
    """Build the contexts of ``users`` in a process that still may read all files; return warnings, too.  Blocking.

    :raises ConfigError: as :func:`build_contexts`.
    """
    from triosmtp.tls.context_store import ContextStore  # noqa: PLC0415 - as above

    built = build_contexts(ContextStore(), users)
    return ContextStore(built.renewal.contexts), list(built.warnings)


def material_problem(
    settings: Settings,
    server_names: Iterable[ServerName],
    found: MaterialError | MaterialWarning,
    severity: Severity = Severity.ERROR,
) -> Problem:
    """Return a problem of certificate material with the place of the option that names it."""
    subject = "" if found.path is None else f'"{found.path}": '
    field = (found.option or "TLS_Certificate").lower()
    scopes: tuple[Settings | ServerName, ...] = (settings, *server_names)
    scope = next((scope for scope in scopes if found.path in _paths(scope, field)), settings)
    return problem_at(scope, field, f"{subject}{found.reason}", severity)


def material_problems(settings: Settings, server_names: Iterable[ServerName], error: MaterialError) -> list[Problem]:
    """Return the problems of an error and of the errors that were found with it."""
    return [material_problem(settings, server_names, each) for each in error.every]


def _paths(scope: Settings | ServerName, field: str) -> tuple[Path, ...]:
    value = getattr(scope, field, ())
    return value if isinstance(value, tuple) else (value,)


def _requests_certificate(settings: Settings) -> bool:
    """Return whether clients are asked for a certificate: an option uses it, and something can identify it."""
    return settings.tls_verify_mode != "none" and (settings.tls_client_ca is not None or settings.grants_by_fingerprint)


def _certificates(scope: Settings | ServerName) -> tuple[CertificateFiles, ...]:
    keys, passwords, responses = scope.tls_key, scope.tls_key_password_file, scope.tls_ocsp_response
    if len(passwords) == 1:
        passwords *= len(scope.tls_certificate)  # one for all keys
    return tuple(
        CertificateFiles(certificate, _at(keys, index), _at(passwords, index), _at(responses, index))
        for index, certificate in enumerate(scope.tls_certificate)
    )


def _at(paths: tuple[Path, ...], index: int) -> Path | None:
    return paths[index] if index < len(paths) else None
