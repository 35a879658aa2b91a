"""The supervisor without workers: what it does for one that is stuck, and for connections that no worker serves."""

import signal
import socket

import trio

from triosmtp import Config, parse_config
from triosmtp.server.admission import AdmissionTicket
from triosmtp.server.startup import open_service, prepare_generation
from triosmtp.sockets.peer import peer_from_sockaddr
from triosmtp.workers.channel import Channel
from triosmtp.workers.dispatcher import NotServed, PendingConnection
from triosmtp.workers.handoff import Handoff, connections_pair
from triosmtp.workers.supervisor import Supervisor
from triosmtp.workers.worker_process import WorkerProcess


def config() -> Config:
    return parse_config('Deliver_To = "discard:" ESMTP_Listener { Listen "127.0.0.1:25" { } }')


async def test_a_stuck_worker_is_killed() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours, waits=False)
    process = await trio.lowlevel.open_process(["sleep", "100"], stdin=None)
    connections = connections_pair()
    worker = WorkerProcess(1, process, channel, *connections, 1)
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(await open_service(config()), nursery, 1, hung=0.2)
        nursery.start_soon(channel.run, {}, {})
        with trio.fail_after(30):
            await supervisor.watchdog(worker)
            assert await process.wait() == -signal.SIGKILL
        nursery.cancel_scope.cancel()
    for sock in (theirs, *connections):
        sock.close()


async def test_a_connection_of_an_older_configuration_is_turned_away_by_that_one() -> None:
    before, after = config(), config()
    service = await open_service(before)
    old, listen = service.generation, before.listens[0]
    ticket = service.limits.admission.admit(old, listen, before.resolve(listen, None), None)
    assert isinstance(ticket, AdmissionTicket)
    profiles = old.profiles.renewed(after)
    generation, _ = await trio.to_thread.run_sync(prepare_generation, after, profiles, service.contexts)
    assert service.activate(generation) is old
    ours, theirs = socket.socketpair()
    handoff = Handoff(1, 1, listen.key, peer_from_sockaddr(("192.0.2.1", 1)))
    with theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(old.close_when_unused)
            supervisor = Supervisor(service, nursery, 1)
            supervisor._refuse(PendingConnection(handoff, ours, ticket), NotServed.NO_CAPACITY)
        assert theirs.recv(100).startswith(b"421 4.3.2 No worker")
    assert service.statistics.sessions == 0
