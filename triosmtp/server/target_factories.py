"""Makes the delivery of a target, by the scheme of its address.

A factory imports what it needs when it is called, so that a package of another scheme is not imported without need.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from triosmtp.config import TargetSettings
from triosmtp.delivery import Delivery, TargetContext, load_delivery, parse_delivery
from triosmtp.errors import needs_extra
from triosmtp.module_loader import ModuleLoader

__all__ = ["make_delivery", "missing_extra"]

Factory: TypeAlias = Callable[[TargetSettings, TargetContext], Delivery]
"""Makes the delivery; blocks; raises :class:`~triosmtp.errors.ConfigError`, or ValueError about Deliver_To.

It opens no connection: :meth:`Delivery.run` may do that.
"""


def make_delivery(target: TargetSettings, context: TargetContext, loader: ModuleLoader) -> Delivery:
    """Return the delivery of ``target``.  Blocks.

    :raises ConfigError: if it cannot be made, with a problem for each option.
    :raises ValueError: if its address cannot be used.
    """
    if target.scheme == "python":
        return load_delivery(loader, str(target.addresses[0]))
    return FACTORIES[target.scheme](target, context)


def _local(target: TargetSettings, _context: TargetContext) -> Delivery:
    return parse_delivery(str(target.addresses[0]))


def _next_hop(target: TargetSettings, context: TargetContext) -> Delivery:
    from triosmtp.next_hop.hop_factory import make_next_hop  # noqa: PLC0415 - see above

    return make_next_hop(target, context)


def _http(target: TargetSettings, context: TargetContext) -> Delivery:
    try:
        from triosmtp.http_delivery.http_factory import make_http_delivery  # noqa: PLC0415 - it imports httpx
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise ValueError(needs_extra("httpx", "http")) from None
    return make_http_delivery(target, context)


def _nats(target: TargetSettings, context: TargetContext) -> Delivery:
    try:
        from triosmtp.jetstream.stream_factory import make_stream_delivery  # noqa: PLC0415 - imports nats-py
    except ImportError as error:
        raise missing_extra("nats-py", "nats", error) from None
    return make_stream_delivery(target, context)


def missing_extra(package: str, extra: str, error: ImportError) -> ValueError:
    """Return the error for a library of an extra that is not installed, or cannot be used."""
    return ValueError(f"{needs_extra(package, extra)} ({error})")


FACTORIES: Final[Mapping[str, Factory]] = {
    "maildir": _local, "discard": _local, "lmtp": _next_hop, "smtp": _next_hop, "smtps": _next_hop, "http": _http,
    "https": _http, "nats": _nats,
}  # fmt: skip
"""The factory of each scheme but ``python``."""
