"""The connection to an authentication service that many exchanges share, with a service that a test scripts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import define, field

from triosmtp.auth import AuthServiceError
from triosmtp.auth.dovecot_codec import Continued, Failed, ServiceAnswer, Succeeded
from triosmtp.policy import Session
from triosmtp.server import auth_service
from triosmtp.server.auth_service import AuthRequest, AuthService, request_attributes
from triosmtp.variables import TLSInfo

HANDSHAKE = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tANONYMOUS\tanonymous\nDONE\n"


@define
class Script:
    """A service at a Unix socket: it greets with ``handshake``; a test reads and writes on its connections."""

    path: Path
    handshake: bytes = HANDSHAKE
    connections: list[trio.SocketStream] = field(factory=list)
    _received: dict[int, bytearray] = field(factory=dict)
    _arrived: trio.Event = field(factory=trio.Event)

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections.append(stream)
        received = self._received.setdefault(id(stream), bytearray())
        await stream.send_all(self.handshake)
        try:
            async for data in stream:
                received += data
                self._arrived.set()
                self._arrived = trio.Event()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def lines(self, count: int, connection: int = 0) -> list[str]:
        """Return the lines after the greeting, as soon as there are so many."""
        while True:
            if len(self.connections) > connection:
                text = bytes(self._received[id(self.connections[connection])]).decode()
                if text.count("\n") >= count + 2:
                    return text.split("\n")[2:-1]
            await self._arrived.wait()

    async def say(self, text: str, connection: int = -1) -> None:
        await self.connections[connection].send_all(text.encode())


@asynccontextmanager
async def script(folder: Path, handshake: bytes = HANDSHAKE) -> AsyncIterator[Script]:
    script = Script(folder / "auth", handshake)
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(str(script.path))
        sock.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, script.serve, [trio.SocketListener(sock)])
            with trio.fail_after(20):
                yield script
            nursery.cancel_scope.cancel()


async def failing(service: AuthService, mechanism: str = "PLAIN") -> str:
    with pytest.raises(AuthServiceError) as error:
        await AuthRequest(service, mechanism, ()).ask(None)
    return str(error.value)


async def test_exchanges_share_a_connection_and_answers_find_their_own(tmp_path: Path) -> None:
    answers: dict[str, ServiceAnswer] = {}
    async with script(tmp_path) as remote:
        service = AuthService(remote.path)

        async def ask(name: str) -> None:
            answers[name] = await AuthRequest(service, "PLAIN", (f"session={name}",)).ask(name.encode())

        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "c"):
                nursery.start_soon(ask, name)
            lines = sorted(await remote.lines(3), key=lambda line: line.split("\t")[3])
            numbers = [line.split("\t")[1] for line in lines]
            assert lines[0].split("\t")[2:] == ["PLAIN", "session=a", "resp=YQ=="]
            await remote.say(f"FAIL\t{numbers[2]}\tuser=c\nOK\t{numbers[0]}\tuser=a\n")
            await trio.testing.wait_all_tasks_blocked()
            assert answers == {"c": Failed("c", "refused by Dovecot"), "a": Succeeded("a")}
            await remote.say(f"CONT\t{numbers[1]}\t\n")
        assert answers["b"] == Continued(b"")
        assert len(remote.connections) == 1
        service.close()


async def test_if_the_session_that_reads_is_cancelled_another_one_reads_on(tmp_path: Path) -> None:
    async with script(tmp_path) as remote:
        service = AuthService(remote.path)
        first = trio.CancelScope()

        async def ask_first() -> None:
            with first:
                await AuthRequest(service, "PLAIN", ()).ask(None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_first)
            await remote.lines(1)
            answered: list[ServiceAnswer] = []

            async def ask_second() -> None:
                answered.append(await AuthRequest(service, "LOGIN", ()).ask(None))

            nursery.start_soon(ask_second)
            await remote.lines(2)
            first.cancel()
            await trio.testing.wait_all_tasks_blocked()
            await remote.say("OK\t1\tuser=late\nOK\t2\tuser=second\n")
        assert answered == [Succeeded("second")]
        service.close()


async def test_an_abandoned_exchange_is_cancelled_with_the_next_request(tmp_path: Path) -> None:
    async with script(tmp_path) as remote:
        service = AuthService(remote.path)
        request = AuthRequest(service, "LOGIN", ())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(request.ask, None)
            await remote.lines(1)
            await remote.say("CONT\t1\t\n")
        request.abandon()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(AuthRequest(service, "LOGIN", ()).ask, None)
            assert await remote.lines(3) == ["AUTH\t1\tLOGIN", "CANCEL\t1", "AUTH\t2\tLOGIN"]
            await remote.say("FAIL\t1\nCONT\t2\t\n")
        AuthRequest(service, "LOGIN", ()).abandon()  # of which the service knows nothing
        service.close()


async def test_a_connection_that_ends_fails_its_exchanges_and_the_next_one_connects_again(tmp_path: Path) -> None:
    async with script(tmp_path) as remote:
        service = AuthService(remote.path)
        reasons: list[str] = []

        async def ask() -> None:
            reasons.append(await failing(service))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await remote.lines(2)
            await remote.connections[0].aclose()
        assert reasons == ["Auth_Service: the service has ended the connection"] * 2
        answered: list[ServiceAnswer] = []

        async def ask_again() -> None:
            answered.append(await AuthRequest(service, "PLAIN", ()).ask(None))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_again)
            await remote.lines(1, connection=1)
            await remote.say("OK\t1\tuser=x\n")
        assert answered == [Succeeded("x")]
        assert len(remote.connections) == 2
        service.close()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("OK\t77\tuser=x\n", "an answer to a request that was never sent"),
        ("x" * 20_000, "a line above 16384 octets"),
        ("CONT\t1\t***\n", "a challenge that is not base64"),
    ],
)
async def test_a_violation_of_the_protocol_ends_the_connection(tmp_path: Path, said: str, reason: str) -> None:
    async with script(tmp_path) as remote:
        service = AuthService(remote.path)
        reasons: list[str] = []

        async def ask() -> None:
            reasons.append(await failing(service))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await remote.lines(1)
            await remote.say(said)
        assert reasons == [f"Auth_Service: {reason}"]
        service.close()


@pytest.mark.parametrize(
    "handshake", [b"+OK POP3 ready\n", b"VERSION\t2\t0\nDONE\n", b"VERSION\t1\t2\n" + b"X\n" * 300]
)
async def test_what_is_no_dovecot_is_a_temporary_failure(tmp_path: Path, handshake: bytes) -> None:
    async with script(tmp_path, handshake) as remote:
        assert "Auth_Service: " in await failing(AuthService(remote.path))


async def test_a_mechanism_that_the_service_lacks_is_never_sent(tmp_path: Path) -> None:
    async with script(tmp_path) as remote:
        service = AuthService(remote.path)
        assert service.offers("CRAM-MD5")  # nothing is known yet
        assert await failing(service, "CRAM-MD5") == "Auth_Service: the service does not offer CRAM-MD5"
        assert await failing(service, "ANONYMOUS") == "Auth_Service: the service does not offer ANONYMOUS"
        assert (service.offers("PLAIN"), service.offers("CRAM-MD5")) == (True, False)
        assert (service.is_readable("PLAIN"), service.is_readable("CRAM-MD5")) == (True, False)
        assert await remote.lines(0) == []
        service.close()


async def test_a_session_learns_what_is_offered_and_waits_only_once_a_second(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    service = AuthService(tmp_path / "absent")
    opened: list[float] = []

    async def count(_path: Path) -> trio.SocketStream:
        opened.append(trio.current_time())
        raise OSError("no such file")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth_service, "connect_unix_socket", count)
        for _ in range(3):
            await service.refresh()
            await trio.sleep(0.5)
    assert [round(each - opened[0], 1) for each in opened] == [0.0, 1.0]


async def test_the_circuit_breaker_opens_after_time_outs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_service, "ANSWER_SECONDS", 0.01)
    async with script(tmp_path) as remote:
        service = AuthService(remote.path)
        await service.refresh()
        reasons = [await failing(service) for _ in range(6)]
        assert reasons[:5] == ["Auth_Service: no answer within 0.01 s"] * 5
        assert reasons[5] == "Auth_Service: the circuit breaker is open after 5 time-outs in a row"
        assert len(remote.connections) == 1
        service.close()


def session(tls: TLSInfo | None = None, peer: str = "[2001:db8::7]:53211") -> Session:
    return Session(id="s-1", listener=":25", peer=peer, peer_address=None, local="192.0.2.1:25", tls=tls)


def test_dovecot_is_told_of_the_client_and_of_tls() -> None:
    common = ["service=smtp", "nologin", "session=s-1", "lip=192.0.2.1", "lport=25"]
    assert list(request_attributes(session(), None)) == [*common, "rip=2001:db8::7", "rport=53211"]
    assert list(request_attributes(session(peer="unix"), None)) == common
    tls = TLSInfo(protocol="TLSv1.3", cipher="X", cipher_algbits=256, cipher_usebits=128, sni="mx.example.org")
    of_tls = ["secured=tls", "tls_protocol=TLSv1.3", "tls_cipher=X", "tls_cipher_bits=128", "local_name=mx.example.org"]
    assert list(request_attributes(session(tls, "unix"), "joe")) == [*common, *of_tls]


def test_only_a_verified_certificate_is_named() -> None:
    claimed = TLSInfo(protocol="", cipher="", cipher_algbits=0, cipher_usebits=0, client_certificate=b"x")
    assert not [each for each in request_attributes(session(claimed), "joe") if "cert" in each]
    verified = TLSInfo(protocol="", cipher="", cipher_algbits=0, cipher_usebits=0, verified=True)
    found = [each for each in request_attributes(session(verified), "joe") if "cert" in each]
    assert found == ["valid-client-cert", "cert_username=joe"]
    assert "cert_username=" not in "".join(request_attributes(session(verified), None))
