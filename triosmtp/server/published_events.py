"""Publish_Events: makes what publishes events to NATS, if it is configured."""

from typing import TYPE_CHECKING

from triosmtp.config import Config, problem_at
from triosmtp.errors import ConfigError
from triosmtp.server.target_factories import missing_extra

if TYPE_CHECKING:
    from triosmtp.jetstream.event_publisher import EventPublisher

__all__ = ["make_event_publisher"]


def make_event_publisher(config: Config) -> "EventPublisher | None":
    """Return what publishes events as ``config`` says, or None.  Blocks.

    :raises ConfigError: if the options cannot be used.
    """
    settings = config.base
    if settings.publish_events is None:
        return None
    try:
        from triosmtp.jetstream import stream_factory  # noqa: PLC0415 - imports nats-py
    except ImportError as error:
        raise ConfigError(
            [problem_at(settings, "publish_events", str(missing_extra("nats-py", "nats", error)))]
        ) from None
    return stream_factory.make_event_publisher(settings)
