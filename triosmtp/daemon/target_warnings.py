"""Warnings about the TLS files of Delivery scopes: keys that others can read, certificates that expired."""

from collections.abc import Iterator

from triosmtp.config import Config, TargetSettings, problem_at
from triosmtp.errors import Problem, Severity

__all__ = ["target_warnings"]


def target_warnings(config: Config) -> list[Problem]:
    """Return the warnings about the TLS files of all Delivery scopes.  Reads them, and blocks."""
    return [warning for name in config.deliveries for warning in _warnings(config.target(name))]


def _warnings(target: TargetSettings) -> Iterator[Problem]:
    settings = target.settings
    if settings.tls_ca is None and not settings.tls_certificate:
        return
    from triosmtp.tls.client_context import client_warnings  # noqa: PLC0415 - imports OpenSSL, and most need none

    for found in client_warnings(settings.tls_ca, settings.tls_certificate, settings.tls_key):
        field = (found.option or "TLS_Certificate").lower()
        text = found.reason if found.path is None else f'"{found.path}": {found.reason}'
        yield problem_at(settings, field, text, Severity.WARNING)
