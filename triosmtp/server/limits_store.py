"""Makes the shared counts of Limits_Store.  Imported only if the option is set."""

from functools import partial
from typing import TYPE_CHECKING

from triosmtp.config import Config, problem_at
from triosmtp.delivery import SecretFile, SecretFileError
from triosmtp.errors import ConfigError
from triosmtp.event import LimitsStoreChanged
from triosmtp.limits.shared_counts import SharedCounts, missing_package

if TYPE_CHECKING:
    from triosmtp.server.service import Service

__all__ = ["check_limits_store", "open_shared_counts"]


def check_limits_store(config: Config) -> None:
    """Check the package that Limits_Store needs, and its password file.  Blocks.

    :raises ConfigError: if they cannot be used.
    """
    problems, base = [], config.base
    missing = missing_package()
    if missing:
        problems.append(problem_at(base, "limits_store", f"Limits_Store {missing}"))
    if base.limits_store_password_file is not None:
        try:
            SecretFile(base.limits_store_password_file).check()
        except SecretFileError as error:
            problems.append(problem_at(base, "limits_store_password_file", str(error)))
    if problems:
        raise ConfigError(problems)


def open_shared_counts(service: "Service", url: str) -> SharedCounts:
    """Return the counts of all nodes that use the Redis at ``url``.  They connect when they run.  Blocks.

    :raises ConfigError: if the options cannot be used.
    """
    check_limits_store(service.config)

    def report(*, available: bool, reason: str) -> None:
        service.emit(LimitsStoreChanged(store=url, available=available, reason=reason))

    path = service.config.base.limits_store_password_file
    return SharedCounts(url, None if path is None else partial(_first_secret, SecretFile(path)), on_change=report)


async def _first_secret(file: SecretFile) -> str:
    return (await file.read())[0]
