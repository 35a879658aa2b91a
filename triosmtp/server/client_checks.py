"""Makes the policies of Client_Name, DNSBL_Sites and Greylist.  Imported only if one of them is set."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from triosmtp.client_checks.client_name_policy import ClientNamePolicy
from triosmtp.client_checks.dnsbl_policy import DNSBLPolicy
from triosmtp.client_checks.greylist_database import GreylistDatabase
from triosmtp.client_checks.greylist_policy import GreylistPolicy
from triosmtp.config import Config, Settings, problem_at
from triosmtp.dns_client import DNSResolver, import_dnspython
from triosmtp.errors import ConfigError
from triosmtp.event import ServerEvent
from triosmtp.filesystem import state_directory
from triosmtp.policy import Policy

if TYPE_CHECKING:
    from triosmtp.client_checks.greylist_redis import GreylistRedis

__all__ = ["ClientChecks"]


class ClientChecks:
    """The policies that look at who is connecting, for one configuration.

    They share one resolver and one memory of greylisting.  ``emit`` gets events of the Redis.
    """

    def __init__(self, config: Config, emit: Callable[[ServerEvent], None]) -> None:
        self._config = config
        self._emit = emit
        self._resolver = DNSResolver(config.base.dns_servers)
        self._greylist: GreylistDatabase | GreylistRedis | None = None

    def policies(self, settings: Settings) -> tuple[list[Policy], list[Policy]]:
        """Return the policies that stand before those of Policy, and those behind: a DONE of Policy waives them.

        :raises ConfigError: if a package is missing.
        """
        first: list[Policy] = []
        last: list[Policy] = []
        for field in ("client_name", "dnsbl_sites"):
            if getattr(settings, field):
                try:
                    import_dnspython()
                except ImportError as error:
                    raise ConfigError([problem_at(settings, field, str(error))]) from None
        if settings.client_name:
            first.append(ClientNamePolicy(self._resolver, settings.dns_timeout))
        if settings.dnsbl_sites:
            last.append(
                DNSBLPolicy(self._resolver, settings.dnsbl_sites, settings.dnsbl_threshold, settings.dns_timeout)
            )
        if settings.greylist:
            last.append(GreylistPolicy(self._store(), settings.greylist_delay, settings.dnsbl_allow_threshold))
        return first, last

    def _store(self) -> "GreylistDatabase | GreylistRedis":
        if self._greylist is None:
            base = self._config.base
            if base.limits_store is None:
                self._greylist = GreylistDatabase(base.greylist_file or state_directory() / "greylist.sqlite")
            else:
                from triosmtp.client_checks.greylist_redis import GreylistRedis  # noqa: PLC0415 - see Limits_Store
                from triosmtp.server.limits_store import make_redis_store  # noqa: PLC0415

                self._greylist = GreylistRedis(make_redis_store(self._config, self._emit))
        return self._greylist

    def __str__(self) -> str:
        return "client checks"

    async def run(self) -> None:
        """Hold the connections that the policies need, until cancelled."""
        if self._greylist is not None and not isinstance(self._greylist, GreylistDatabase):
            await self._greylist.run()

    def close(self) -> None:
        """Close the file of greylisting."""
        if self._greylist is not None:
            self._greylist.close()
