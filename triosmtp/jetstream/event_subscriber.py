"""Receives the events that nodes publish, for ``triosmtp policy watch``.  It runs in an asyncio event loop.

A program that may publish under the subject can send anything, so an event is checked before it is shown.
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable
from itertools import cycle
from typing import Any, Final

import nats.errors
from nats.aio.msg import Msg

from triosmtp.config import TargetAddress
from triosmtp.jetstream.nats_client import NATSLogin, open_connection

__all__ = ["read_event", "receive_events"]

_log = logging.getLogger("triosmtp.nats")

_RETRY_SECONDS: Final = 1.0
_METHOD: Final = re.compile(r"[a-z]{1,32}\.[a-z_]{1,32}").fullmatch
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}").fullmatch
_TIME: Final = re.compile(r"[0-9T:.Z-]{1,32}").fullmatch
_CONTEXTS: Final = ("variables", "message_variables")


async def receive_events(
    address: TargetAddress,
    login: NATSLogin,
    show: Callable[[str, dict[str, Any]], None],
    on_state: Callable[[str], None],
) -> None:
    """Call ``show(method, params)`` for each event under the subject of ``address``, until cancelled.

    ``on_state`` is called with ``""`` for each connection, and else with the reason why there is none.  A subscriber
    that does not keep up loses events.

    :raises NATSCredentialsError: if the files of ``login`` cannot be used.
    """

    async def on_message(message: Msg) -> None:
        event = read_event(message.data)
        if event is not None:
            show(*event)

    failure = ""
    for server in cycle(address.hosts):
        try:
            connection = await open_connection(server, login)
        except (OSError, TimeoutError, nats.errors.Error) as error:
            found = f"{TargetAddress('nats', hosts=(server,))}: {str(error) or type(error).__name__}"
            if found != failure:
                on_state(found)
            failure = found
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        try:
            await connection.client.subscribe(f"{address.path[1:]}.>", cb=on_message)
            await connection.client.flush()
            failure = ""
            on_state("")
            await connection.closed.wait()
            on_state("the connection was lost")
        finally:
            await connection.close()


def read_event(data: bytes) -> tuple[str, dict[str, Any]] | None:
    """Return method and parameters of an event; None if it is not one that a node publishes."""
    try:
        event = json.loads(data)
        method, params = event["method"], event["params"]
        names = [*params, *(name for context in _CONTEXTS for name in params.get(context, {}))]
        if _METHOD(method) and all(map(_NAME, names)) and _TIME(params["time"]):
            return method, params
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    _log.debug("an event that no node publishes is not shown")
    return None
