"""Makes the policy that asks rspamd.  Imported only if a Policy names it, because it needs httpx."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from triosmtp.config import Filter, Settings, parse_rspamd_address, problem_at
from triosmtp.delivery.secret_file import SecretFile, SecretFileError
from triosmtp.errors import ConfigError, needs_extra
from triosmtp.filters.milter_changes import ContentRules, EnvelopeRules
from triosmtp.policy_service.filter_registry import FilterKey, FilterRegistry
from triosmtp.policy_service.question import Fallback

try:
    from triosmtp.filters.rspamd_policy import MAX_CONNECTIONS, RspamdPolicy, RspamdSettings
    from triosmtp.http_client.http_client import HTTPClient
    from triosmtp.http_client.tls_files import TLSFiles
except ModuleNotFoundError as error:
    if error.name != "httpx":
        raise
    MISSING = f"rspamd {needs_extra('httpx', 'http')}"
else:
    MISSING = ""

__all__ = ["make_rspamd_policy"]


def make_rspamd_policy(
    settings: Settings,
    scope: Filter | None,
    key: FilterKey,
    filters: FilterRegistry,
    *,
    timeout: float,
    fallback: Fallback,
    hostname: str,
    envelope: EnvelopeRules,
    content: ContentRules,
) -> "RspamdPolicy":
    """Return the policy for the filter ``key``; ``scope`` is its Filter scope, if it has one.  It reads files.

    :raises ConfigError: if httpx is missing, or a file cannot be used.
    """
    if MISSING:
        raise ConfigError([problem_at(settings, "policy", MISSING)])
    address = parse_rspamd_address(key.address)
    files = TLSFiles() if address.scheme == "https" else None
    rspamd = RspamdSettings(
        key=key,
        url=address.url,
        timeout=timeout,
        fallback=fallback,
        password=None if scope is None else _password(scope, scope.settings.password_file),
        settings_id=("" if scope is None else scope.settings.settings_id) or "",
        hold_to=None if scope is None else scope.hold_to,
        hostname=hostname,
        envelope=envelope,
        content=content,
    )
    return RspamdPolicy(rspamd, filters, HTTPClient(files, connections=MAX_CONNECTIONS, user_agent="triosmtp"))


def _password(scope: Filter, path: Path | None) -> Callable[[], Awaitable[str]] | None:
    """Return what returns the password in force.

    :raises ConfigError: if its file cannot be used.
    """
    if path is None:
        return None
    file = SecretFile(path)
    try:
        file.check()
    except SecretFileError as error:
        raise ConfigError([problem_at(scope.settings, "password_file", str(error))]) from None

    async def password() -> str:
        return (await file.read())[0]

    return password
