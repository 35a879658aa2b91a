"""The delivery by HTTP: one POST for each message, and the meaning of each answer."""

import re
import time
from collections.abc import Mapping
from typing import Final

import trio
from attrs import frozen

from triosmtp.delivery import Delivery, DeliveryError, SecretFileError, TargetHealth
from triosmtp.errors import Reject
from triosmtp.http_client.http_client import HTTPAnswer, HTTPClient, HTTPFailureError
from triosmtp.http_delivery.form_body import BodyError, FormBody
from triosmtp.http_delivery.request_pool import RequestPool
from triosmtp.http_delivery.webhook_signature import SigningSecrets, WebhookSigner
from triosmtp.limits.fair_queue import QueueFullError
from triosmtp.message import Message
from triosmtp.message.spool import SpoolError

__all__ = ["MAX_ANSWER", "HTTPDelivery", "HTTPTarget"]


MAX_ANSWER: Final = 4096
"""Octets of an answer."""
_REFUSALS: Final[Mapping[int, tuple[int, str, str]]] = {
    400: (554, "5.6.0", "Message refused"),
    410: (554, "5.3.0", "Message refused"),
    413: (552, "5.3.4", "Message too big for system"),
    415: (554, "5.6.1", "Message refused"),
    422: (554, "5.6.0", "Message refused"),
}
"""The statuses that refuse a message for good.  All others but 2xx are a failure of the target."""
_AVAILABLE: Final = frozenset({*range(200, 300), 400, 405, 410, 411, 413, 415, 422, 501})
"""The statuses of an answer to HEAD after which a message may be sent again."""
_UNPRINTABLE: Final = re.compile(r"[^ -~]+")
_MAX_REASON: Final = 200


@frozen(slots=True, kw_only=True)
class HTTPTarget:
    """The options of one target."""

    name: str
    urls: tuple[str, ...]
    """They are tried in this order."""
    tls_name: str | None
    """The name that the certificate must have; None: that of the URL."""
    seconds: float
    """The time for a whole message."""
    connections: int
    """Connections at once; 0: unlimited."""
    node: str
    secrets: SigningSecrets | None


class HTTPDelivery(Delivery):
    """Hands each message to an application, by HTTP."""

    honours = frozenset({"MT-PRIORITY"})

    def __init__(self, target: HTTPTarget, pool: RequestPool, health: TargetHealth) -> None:
        self._target = target
        self._pool = pool
        self._health = health

    def __str__(self) -> str:
        return self._target.name

    async def deliver(self, message: Message) -> str:
        """Send the message to the application; return its answer for the log.

        :raises Reject: if the application refuses it for good.
        :raises DeliveryError: if it cannot be handed over now.
        """
        began = trio.current_time()
        self._health.connections += 1
        try:
            with trio.move_on_after(self._target.seconds):
                async with self._pool.client() as client:
                    answer = await self._post(message, client)
                return self._judge(answer, trio.current_time() - began)
            raise self._failed(f"no answer within {self._target.seconds:g} s")
        except HTTPFailureError as error:
            raise self._failed(str(error)) from None
        except SecretFileError as error:
            raise self._failed(str(error)) from None
        except QueueFullError:
            raise DeliveryError(f"{self}: too many messages wait for a connection") from None
        except (SpoolError, BodyError) as error:
            raise DeliveryError(str(error), storage=True) from None
        finally:
            self._health.connections -= 1

    async def _post(self, message: Message, client: HTTPClient) -> HTTPAnswer:
        """Send the message to the first address that a connection can be made to."""
        target = self._target
        body = await FormBody.of(message, target.node)
        timestamp, identifier = int(time.time()), f"{message.id}-{message.part}" if message.part else message.id
        headers = [
            ("Content-Type", body.content_type), ("webhook-id", identifier), ("webhook-timestamp", str(timestamp)),
        ]  # fmt: skip
        if target.secrets is not None:
            signer = WebhookSigner(await target.secrets.read(), identifier, timestamp)
            await body.feed(signer.update)
            headers.append(("webhook-signature", signer.signature))
        failure: HTTPFailureError | None = None
        for url in target.urls:
            try:
                return await client.post(
                    url,
                    headers,
                    body.size,
                    body.chunks,
                    max_answer=MAX_ANSWER,
                    truncate=True,
                    tls_name=target.tls_name,
                )
            except HTTPFailureError as error:
                if error.kind not in {"connect", "tls"}:  # the application may have the message
                    raise
                failure = failure or error
        assert failure is not None, "there is an address"
        raise failure

    def _judge(self, answer: HTTPAnswer, seconds: float) -> str:
        said = _UNPRINTABLE.sub("", " ".join(answer.body[:1024].decode("utf-8", "replace").split()))[:_MAX_REASON]
        status = f"{answer.status}: {said}" if said else str(answer.status)
        if 200 <= answer.status < 300:
            self._health.succeeded(seconds)
            return status
        reason = f"answered {status}"
        refusal = _REFUSALS.get(answer.status)
        if refusal is None:
            raise self._failed(reason)
        self._health.succeeded(seconds)
        raise Reject(*refusal, reason=f"{self}: {reason}")

    def _failed(self, reason: str) -> DeliveryError:
        self._health.failed(reason)
        return DeliveryError(f"{self}: {reason}")

    async def probe(self) -> str:
        """Ask whether the application is there, without a message."""
        with trio.move_on_after(min(self._target.seconds, 30)):
            try:
                async with self._pool.client() as client:
                    answer = await client.head(self._target.urls[0], tls_name=self._target.tls_name)
            except QueueFullError:
                return self._health.reason
            except HTTPFailureError as error:
                return str(error)
            return "" if answer.status in _AVAILABLE else f"answered {answer.status}"
        return "no answer in time"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Put the limit of connections in force, for former configurations of the target, too."""
        self._pool.set_limit(self._target.connections)
        task_status.started()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()
