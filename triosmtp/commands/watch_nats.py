"""``triosmtp policy watch --url nats://…``: the events that all nodes publish (Publish_Events)."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import Any, Final

from triosmtp.commands.policy_command import format_json, format_line, parse_filter
from triosmtp.config.types.target_url import parse_events_address
from triosmtp.errors import QueryError
from triosmtp.policy_client import Notification
from triosmtp.server.target_factories import missing_extra

__all__ = ["watch_nats"]

_EX_UNAVAILABLE: Final = 69


def watch_nats(arguments: argparse.Namespace) -> int:
    """Print what happens on all nodes, a line each, until interrupted; ``arguments`` are those of `policy watch`.

    :raises QueryError: if an argument cannot be used.
    """
    url: str = arguments.url
    credentials: str | None = arguments.credentials
    try:
        from triosmtp.jetstream.event_subscriber import receive_events  # noqa: PLC0415 - imports nats-py
        from triosmtp.jetstream.nats_credentials import NATSCredentialsError  # noqa: PLC0415
        from triosmtp.jetstream.stream_factory import events_login  # noqa: PLC0415

        address = parse_events_address(url)
    except ImportError as error:
        raise QueryError(f"--url {url}: {missing_extra('nats-py', 'nats', error)}") from None
    except ValueError as error:
        raise QueryError(f"--url: {error}") from None
    wanted = [parse_filter(text) for text in arguments.filter]
    login = events_login(address, None if credentials is None else Path(credentials))

    def show(method: str, params: dict[str, Any]) -> None:
        note = Notification(method, params)
        if all(matches(note) for matches in wanted):
            print(format_json(note) if arguments.json else format_line(note), flush=True)

    def tell(failure: str) -> None:
        print(failure or f"connected to {url}; waiting for events, end it with ^C", file=sys.stderr, flush=True)

    async def watch() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        await receive_events(address, login, show, tell)

    try:
        asyncio.run(watch())
    except asyncio.CancelledError:
        return 0
    except (NATSCredentialsError, OSError) as error:
        print(f"triosmtp: {error}", file=sys.stderr)
    return _EX_UNAVAILABLE
