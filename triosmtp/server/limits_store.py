"""Makes the Redis of Limits_Store.  Imported only if the option is set."""

from collections.abc import Callable
from functools import partial

from triosmtp.config import Config, problem_at
from triosmtp.delivery import SecretFile, SecretFileError
from triosmtp.errors import ConfigError
from triosmtp.event import LimitsStoreChanged, ServerEvent
from triosmtp.limits.redis_store import RedisStore, import_coredis

__all__ = ["check_limits_store", "make_redis_store"]


def check_limits_store(config: Config) -> None:
    """Check the package that Limits_Store needs, its password file, and Node_Name.  Blocks.

    :raises ConfigError: if they cannot be used.
    """
    problems, base = [], config.base
    try:
        import_coredis()
    except ImportError as error:
        problems.append(problem_at(base, "limits_store", f"Limits_Store {error}"))
    if base.node_name is None:
        problems.append(problem_at(base, "limits_store", "Limits_Store needs a Node_Name"))
    if base.limits_store_password_file is not None:
        try:
            SecretFile(base.limits_store_password_file).check()
        except SecretFileError as error:
            problems.append(problem_at(base, "limits_store_password_file", str(error)))
    if problems:
        raise ConfigError(problems)


def make_redis_store(config: Config, emit: Callable[[ServerEvent], None]) -> RedisStore:
    """Return the Redis of Limits_Store, which is set.  It is not connected yet.  ``emit`` gets its events."""
    url, path = config.base.limits_store, config.base.limits_store_password_file
    assert url is not None, "the option is set"

    def report(*, available: bool, reason: str) -> None:
        emit(LimitsStoreChanged(store=url, available=available, reason=reason))

    password = None if path is None else partial(_first_secret, SecretFile(path))
    return RedisStore(url, password, seconds=config.base.limits_store_timeout, on_change=report)


async def _first_secret(file: SecretFile) -> str:
    return (await file.read())[0]
