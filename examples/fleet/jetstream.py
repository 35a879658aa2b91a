"""What the fleet needs of JetStream: streams, a bucket for objects, one for results, and a consumer.

Requests to ``$JS.API`` do the same as the commands of NATS that are in `docs/jetstream.md`.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client

from .service import FleetError

__all__ = ["JetStreamAPI"]

_SECONDS = 60.0
_NANOSECONDS = 1_000_000_000
_DURABLE = {"storage": "file", "discard": "new", "num_replicas": 3}
_BUCKET = {**_DURABLE, "allow_rollup_hdrs": True, "allow_direct": True}
_STREAMS: Sequence[Mapping[str, Any]] = (
    {**_DURABLE, "name": "MAIL", "subjects": ["mail.in.>"], "duplicate_window": 120 * _NANOSECONDS},
    {**_DURABLE, "name": "FAILED", "subjects": ["mail.failed.>"], "retention": "limits"},
    {**_BUCKET, "name": "OBJ_MAIL", "subjects": ["$O.MAIL.C.>", "$O.MAIL.M.>"]},
    {**_BUCKET, "name": "KV_MAIL-results", "subjects": ["$KV.MAIL-results.>"], "max_msgs_per_subject": 1},
)
_CONSUMER = {
    "durable_name": "triosmtp", "ack_policy": "explicit", "ack_wait": 20 * _NANOSECONDS, "max_deliver": -1,
    "deliver_policy": "all", "max_ack_pending": 10_000,
}  # fmt: skip


class JetStreamAPI:
    """Requests to JetStream.  They block: call them in a thread."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._urls = [f"nats://127.0.0.1:{port}" for port in ports]

    def make_all(self, *, keep: bool) -> None:
        """Make everything.  With ``keep`` the stream keeps messages that were delivered.

        :raises FleetError: if that does not succeed.
        """
        asyncio.run(self._make_all("limits" if keep else "workqueue"))

    async def _make_all(self, retention: str) -> None:
        async with await self._connect() as client:
            for config in _STREAMS:
                await _request(client, f"STREAM.CREATE.{config['name']}", {"retention": retention, **config})
            body = {"stream_name": "MAIL", "config": _CONSUMER}
            await _request(client, "CONSUMER.DURABLE.CREATE.MAIL.triosmtp", body)

    def waiting(self) -> int:
        """Return how many messages of the stream are not acknowledged by a consumer.

        :raises FleetError: if JetStream does not answer.
        """
        return asyncio.run(self._waiting())

    async def _waiting(self) -> int:
        async with await self._connect() as client:
            info = await _request(client, "CONSUMER.INFO.MAIL.triosmtp")
            return int(info["num_pending"]) + int(info["num_ack_pending"])

    def stored(self) -> dict[str, int]:
        """Return how often each subject is in the stream.

        :raises FleetError: if JetStream does not answer.
        """
        return asyncio.run(self._stored())

    async def _stored(self) -> dict[str, int]:
        found: dict[str, int] = {}
        async with await self._connect() as client:
            while True:
                body = {"subjects_filter": ">", "offset": len(found)}
                page = (await _request(client, "STREAM.INFO.MAIL", body))["state"].get("subjects") or {}
                found.update(page)
                if not page:
                    return found

    async def _connect(self) -> Client:
        return await nats.connect(self._urls, error_cb=_ignore)


async def _request(client: Client, name: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Send a request, again while the cluster has no leader or not enough servers, and return the answer."""
    payload = b"" if body is None else json.dumps(body).encode()
    end, problem = monotonic() + _SECONDS, "no answer"
    while monotonic() < end:
        try:
            answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{name}", payload, timeout=2)).data)
        except nats.errors.Error as error:
            problem = repr(error)
            await asyncio.sleep(0.05)
            continue
        if "error" not in answer:
            return answer
        problem = answer["error"].get("description", "")
        await asyncio.sleep(0.05)
    raise FleetError(f"JetStream: {name}: {problem}")


async def _ignore(_error: Exception) -> None:
    pass
