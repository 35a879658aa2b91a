"""The dispatcher: the worker with the fewest connections, pending connections, and their end."""

import socket
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import trio
import trio.testing

from triosmtp import parse_config
from triosmtp.server.admission import AdmissionTicket
from triosmtp.server.startup import open_service
from triosmtp.sockets.peer import Peer
from triosmtp.workers.dispatcher import Dispatcher, NotServed, PendingConnection
from triosmtp.workers.handoff import Handoff, connections_pair, receive_connection
from triosmtp.workers.worker_process import WorkerProcess


async def admitted() -> AdmissionTicket:
    config = parse_config('Deliver_To = "discard:" ESMTP_Listener { Listen "127.0.0.1:25" { } }')
    service = await open_service(config)
    listen = config.listens[0]
    ticket = service.limits.admission.admit(service.generation, listen, config.resolve(listen, None), None)
    assert isinstance(ticket, AdmissionTicket)
    return ticket


def worker_of(number: int, capacity: int, open_sockets: ExitStack) -> WorkerProcess:
    """Return a worker without a process: its queue is real."""
    queue, worker_end = connections_pair()
    open_sockets.enter_context(queue)
    open_sockets.enter_context(worker_end)
    worker = WorkerProcess(
        number, cast("trio.Process", SimpleNamespace(pid=number)), cast("Any", None), queue, worker_end, 1
    )
    worker.ready, worker.capacity = True, capacity
    return worker


async def test_a_pending_connection_is_refused_after_ten_seconds_or_when_its_client_has_disconnected(
    autojump_clock: trio.testing.MockClock,
) -> None:
    refused: list[tuple[int, NotServed, float]] = []

    def refuse(connection: PendingConnection, why: NotServed) -> None:
        refused.append((connection.handoff.number, why, trio.current_time() - begun))
        connection.sock.close()

    ticket = await admitted()
    dispatcher = Dispatcher(list, refuse)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dispatcher.run)
        begun = trio.current_time()
        peers = []
        for number in range(3):
            ours, theirs = socket.socketpair()
            dispatcher.dispatch(PendingConnection(Handoff(number, 1, None, Peer("p", None)), ours, ticket))
            peers.append(theirs)
        peers[1].close()
        peers[2].sendall(b"EHLO early.example\r\n")
        await trio.sleep(5)
        assert [each[:2] for each in refused] == [(1, NotServed.DISCONNECTED)]
        await trio.sleep(10)
        assert [each[:2] for each in refused[1:]] == [(0, NotServed.NO_CAPACITY), (2, NotServed.NO_CAPACITY)]
        assert all(10 <= when < 12 for _, _, when in refused[1:])
        nursery.cancel_scope.cancel()
    peers[0].close()
    peers[2].close()


async def test_a_connection_goes_to_the_worker_with_the_fewest_and_waits_if_none_has_capacity() -> None:
    ticket = await admitted()
    refused: list[tuple[int, NotServed]] = []
    with ExitStack() as open_sockets:
        workers = [worker_of(1, 2, open_sockets), worker_of(2, 1, open_sockets)]
        dispatcher = Dispatcher(lambda: workers, lambda each, why: refused.append((each.handoff.number, why)))
        assert dispatcher.capacity() == 3
        for number in range(4):
            ours, theirs = socket.socketpair()
            open_sockets.enter_context(ours)
            open_sockets.enter_context(theirs)
            dispatcher.dispatch(PendingConnection(Handoff(number, 1, None, Peer("p", None)), ours, ticket))
        assert [list(worker.connections) for worker in workers] == [[0, 2], [1]]
        assert dispatcher.capacity() == -1
        workers[1].connections.clear()
        dispatcher.stop()
        assert list(workers[1].connections) == [3]
        workers[1].ready = False
        assert dispatcher.capacity() == 0
        for worker, numbers in zip(workers, ([0, 2], [1, 3]), strict=True):
            for number in numbers:
                received = receive_connection(worker.worker_end)
                assert received is not None
                assert received[1] is not None
                received[1].close()
                assert received[0].number == number
    assert not refused
