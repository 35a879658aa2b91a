"""Delivery to a next hop by SMTP or LMTP: the client's 250 is given when the hop has the message."""

import logging
from collections.abc import Sequence

import trio

from triosmtp.delivery import Delivery, DeliveryError, RecipientResult, TargetContext
from triosmtp.errors import Reject
from triosmtp.message import Envelope, Message, Origin
from triosmtp.next_hop.hop import Hop
from triosmtp.next_hop.hop_connector import HopConnector
from triosmtp.next_hop.hop_error import HopBusyError, HopError
from triosmtp.next_hop.hop_parameters import PASSED_ON, declared
from triosmtp.next_hop.hop_pool import HopPool
from triosmtp.next_hop.hop_settings import HopAddress, HopSettings
from triosmtp.next_hop.hop_transaction import HopTransaction
from triosmtp.smtp.extensions import Extensions

__all__ = ["NextHop"]

_log = logging.getLogger("triosmtp.delivery")


class NextHop(Delivery):
    """Delivers to the mail server that ``settings`` name.  Nothing is connected before the first message or ``run``."""

    verifies = True
    splits = True
    wants_origin = True

    def __init__(self, settings: HopSettings, context: TargetContext) -> None:
        self.settings = settings
        self._declared: dict[HopAddress, frozenset[str]] = {}
        connector = HopConnector(settings, self._note_extensions)
        pool = HopPool(
            connector.connect,
            slots=context.slots(settings.max_connections),
            max_deliveries=settings.max_deliveries,
            idle_timeout=settings.timeouts.idle,
            on_change=self._note_connections,
        )
        self._hop = Hop(settings, context, connector, pool)

    @property
    def connector(self) -> HopConnector:
        """It opens the connections; its files are to be checked before."""
        return self._hop.connector

    def _note_extensions(self, address: HopAddress, extensions: Extensions, secure: bool) -> None:
        self._declared[address] = declared(extensions, secure=secure)

    def _note_connections(self, number: int) -> None:
        self._hop.context.health.connections = number

    @property
    def honours(self) -> frozenset[str]:  # type: ignore[override]  # it changes with each EHLO
        """The extensions that every address of the hop declared in its last EHLO; none before the first one."""
        found = list(self._declared.values())
        return frozenset.intersection(*found) if found else frozenset()

    @property
    def may_honour(self) -> frozenset[str]:
        """Those that a hop may declare."""
        return PASSED_ON

    def begin(self, envelope: Envelope, origin: Origin) -> HopTransaction:
        """Begin a transaction; the hop is asked when a recipient is verified, or the message is delivered."""
        return HopTransaction(self._hop, envelope, origin)

    async def deliver_each(self, message: Message) -> Sequence[RecipientResult]:
        """Deliver ``message`` in a transaction of its own."""
        transaction = HopTransaction(self._hop, message.envelope, message.origin)
        try:
            return await transaction.deliver_each(message)
        finally:
            transaction.close()

    async def deliver(self, message: Message) -> None:
        """Deliver ``message`` to all of its recipients.

        :raises Reject: if the hop refused a recipient, and none is to be tried again.
        :raises DeliveryError: if one is to be tried again.
        """
        results = await self.deliver_each(message)
        for each in results:
            if each.is_deferred:
                raise DeliveryError(each.reason or each.text)
        for each in results:
            if not each.is_delivered:
                raise Reject(each.code, each.enhanced or "5.0.0", each.text, reason=each.reason)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect once, to learn the extensions of the hop and to tell the operator if it fails; then tidy up."""
        task_status.started()
        self._hop.pool.set_limit(self.settings.max_connections)
        health = self._hop.context.health
        reason = await self.probe()
        if reason:
            health.failed(reason)
            _log.warning("%s cannot be used now: %s", self, reason)
        elif health.failing_since is not None:
            health.succeeded()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hop.connector.watch_files)
            await self._hop.pool.run()

    async def probe(self) -> str:
        """Open a connection; return ``""``, or why that failed.  If none is free, nothing new is known."""
        try:
            async with self._hop.pool.use(self, self, fresh=True):
                return ""
        except HopBusyError:
            return self._hop.context.health.reason
        except HopError as error:
            return str(error)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._hop.pool.aclose()

    def __str__(self) -> str:
        return self.settings.name
