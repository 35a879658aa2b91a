"""Runs all processes of the fleet, in their order, and ends them in the reverse one."""

import itertools
import signal
from collections.abc import Awaitable, Callable, Mapping

import trio
from attrs import define, field

from .audit import Report, Sender, make_report, read_redeliveries
from .jetstream import JetStreamAPI
from .service import FleetError, Service
from .site import CONCURRENCY, DOMAIN, Site

__all__ = ["Fleet"]

_STOP = 20.0
"""Seconds that a process has to end."""
_SETTLED = 300.0
"""Seconds after the last message was sent in which the consumers must deliver one at least."""
_NOT_SETTLED = (": not settled: ", " is not confirmed, ")
"""A consumer logs these if it may deliver a message again."""


@define(eq=False)
class Fleet:
    """The processes of ``site``.  With ``keep`` the stream keeps what was delivered, so that it can be audited."""

    site: Site
    keep: bool = False
    _stages: list[list[Service]] = field(init=False, factory=list)
    _api: JetStreamAPI = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._api = JetStreamAPI(self.site.nats)

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run it, and ``work`` when everything is ready, until that ends.

        SIGINT and SIGTERM end it earlier.  SIGHUP renews the certificate of the nodes.

        :raises FleetError: if a process cannot be started.
        """
        self.site.prepare()
        async with trio.open_nursery() as services:
            try:
                async with trio.open_nursery() as block:
                    await block.start(self._handle_signals, block.cancel_scope)
                    await self._start_stages(services, self.site.nats_servers())
                    await trio.to_thread.run_sync(lambda: self._api.make_all(keep=self.keep), abandon_on_cancel=True)
                    await self._start_stages(services, self.site.targets())
                    await self._start_stages(services, self.site.consumers(), self.site.nodes())
                    await self._start_stages(services, self.site.front())
                    self._print_ready()
                    await work()
                    block.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    await self._stop_all()

    async def _handle_signals(
        self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    self.site.renew()
                    print("the certificate is renewed", flush=True)
                else:
                    print(f"{signal.Signals(number).name}: everything is stopped", flush=True)
                    scope.cancel()

    async def _start_stages(self, services: trio.Nursery, *stages: list[Service]) -> None:
        """Start stages at the same time; they are ended one after the other."""
        self._stages.extend(stages)
        async with trio.open_nursery() as starting:
            for each in itertools.chain(*stages):
                starting.start_soon(services.start, each.run)

    def _print_ready(self) -> None:
        server = f"127.0.0.1:{self.site.port}"
        print(f"ready: SMTP {server}, mail for anybody@{DOMAIN} arrives in {self.site.maildir}")
        print(f"send a message: swaks --server {server} --tls --to joe@{DOMAIN}")
        print("Ctrl-C ends everything", flush=True)

    async def _stop_all(self) -> None:
        for stage in reversed(self._stages):
            async with trio.open_nursery() as nursery:
                for each in stage:
                    nursery.start_soon(each.stop, _STOP)

    async def audit(self, messages: int) -> Report:
        """Send messages through HAProxy, wait until they are delivered, and compare.

        :raises FleetError: if they are not delivered in time.
        """
        sender = Sender(self.site.port, self.site.authority, messages)
        await sender.send_all()
        least = messages
        with trio.move_on_after(_SETTLED) as scope:
            while waiting := await trio.to_thread.run_sync(self._api.waiting):
                if waiting < least:
                    least, scope.deadline = waiting, trio.current_time() + _SETTLED
                await trio.sleep(0.2)
            stored = await trio.to_thread.run_sync(self._api.stored)
            return await trio.to_thread.run_sync(self._report, sender, stored)
        raise FleetError(f"{least} messages are not delivered, and none was in the last {_SETTLED:g} seconds")

    def _report(self, sender: Sender, stored: Mapping[str, int]) -> Report:
        """Return the report; how much deaths of consumers explain is in their logs, and the number of their ends."""
        consumers = [each for stage in self._stages for each in stage if each.name.startswith("c")]
        logs = [each.log.read_text(errors="replace") for each in consumers]
        excuses = sum(log.count(text) for log in logs for text in _NOT_SETTLED)
        excuses += CONCURRENCY * sum(each.kills for each in consumers)
        return make_report(sender, self.site.maildir, stored, read_redeliveries(logs), excuses)
