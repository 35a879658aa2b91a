"""Extensions between a real client and a real delivery: what is offered, what arrives, what a turn costs."""

import random
import socket
import ssl
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

import triosmtp
from triosmtp import Message, Policy, Reject, Session
from triosmtp.delivery import FunctionDelivery
from triosmtp.event import MessageAccepted, MessageRefused, Refused
from triosmtp.sockets.transport import SocketTransport
from triosmtp.testing import Authority, MemoryServer, open_memory_server

EXTENSIONS = (
    '( "ENHANCEDSTATUSCODES" "STARTTLS" "CHUNKING" "BINARYMIME" "DSN" "LIMITS" "REQUIRETLS" "DELIVERBY" "MT-PRIORITY" '
    '"FUTURERELEASE" )'
)
CONF = """
Relay_Domains = ( "example.com" )
Banner_Hostname = "mx.example.com"
{more}
ESMTP_Listener {{ Listen "{listen}" {{ SMTP_Extensions = {extensions} }} }}
"""


def conf(more: str = "", listen: str = ":25", extensions: str = EXTENSIONS) -> str:
    return CONF.format(more=more, listen=listen, extensions=extensions)


async def offered(server: MemoryServer) -> set[str]:
    client = server.connect()
    await client.read()
    return {line.partition(" ")[0] for line in (await client.command("EHLO x")).lines[1:]}


async def nowhere(_message: Message) -> None:
    pass


async def test_a_delivery_without_extensions_offers_none() -> None:
    async with open_memory_server(conf(extensions=EXTENSIONS.replace('"STARTTLS"', ""))) as server:
        keywords = await offered(server)
    assert keywords == {
        "PIPELINING", "8BITMIME", "SIZE", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING", "LIMITS",
    }  # fmt: skip
    dsn = FunctionDelivery(nowhere, honours=["dsn", "BINARYMIME"])
    async with open_memory_server(conf(extensions=EXTENSIONS.replace('"STARTTLS"', "")), deliver=dsn) as server:
        assert await offered(server) == {*keywords, "DSN", "BINARYMIME"}


async def test_what_dsn_said_reaches_policy_and_delivery() -> None:
    taken: list[Message] = []
    heard: list[object] = []

    async def take(message: Message) -> None:
        taken.append(message)

    class Listener(Policy):
        async def validate_rcptto(self, session: Session, recipient: object, parameters: object) -> None:
            heard.append(parameters)

    delivery = FunctionDelivery(take, honours={"DSN", "MT-PRIORITY", "DELIVERBY", "FUTURERELEASE"})
    text = conf(extensions=EXTENSIONS.replace('"STARTTLS"', ""))
    async with open_memory_server(text, deliver=delivery, policy=Listener()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        mail = "MAIL FROM:<a@example.org> RET=hdrs ENVID=q+2B1 BY=60;r MT-PRIORITY=3 HOLDFOR=60"
        assert (await client.command(mail)).code == 250
        rcpt = "RCPT TO:<b@example.com> NOTIFY=success,delay ORCPT=rfc822;b+2B@example.net"
        assert (await client.command(rcpt)).code == 250
        assert (await client.command("RCPT TO:<c@example.com> NOTIFY=SUCCESS,NEVER")).code == 501
        await client.send(b"BDAT 2 LAST\r\nx:")
        assert (await client.read()).code == 250
    [message] = taken
    assert (message.envelope.ret, message.envelope.envid, message.envelope.priority) == ("HDRS", "q+1", 3)
    assert message.envelope.deliver_by == (60, "R", False)
    assert message.envelope.recipients[0].notify == {"SUCCESS", "DELAY"}
    assert message.envelope.recipients[0].original == ("rfc822", "b+@example.net")
    assert heard == [{"NOTIFY": "SUCCESS,DELAY", "ORCPT": "rfc822;b+2B@example.net"}]


async def test_policy_refuses_the_first_chunk_and_hears_no_more() -> None:
    asked = []

    class Never(Policy):
        async def validate_data(self, session: Session) -> None:
            asked.append(session.id)
            raise Reject(554, "5.7.1", "not now")

    async with open_memory_server(conf(extensions='( "CHUNKING" "ENHANCEDSTATUSCODES" )'), policy=Never()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        await client.send(
            b"MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nBDAT 3\r\nabcBDAT 6 LAST\r\nQUIT\r\n"
            b"MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nBDAT 2 LAST\r\nzz"
        )
        answers = [await client.read() for _ in range(7)]
    assert [answer.code for answer in answers] == [250, 250, 554, 503, 250, 250, 554]
    assert answers[2].text == "5.7.1 not now"
    assert len(asked) == 2
    assert [e.phase for e in server.events if isinstance(e, Refused)] == ["data", "command", "data"]
    assert not server.messages


async def test_a_refused_chunk_is_reported_and_leaves_no_file() -> None:
    async with open_memory_server(
        conf("Max_Message_Size = 10", extensions='( "CHUNKING" "ENHANCEDSTATUSCODES" )')
    ) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        await client.send(b"MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nBDAT 11\r\n12345678901BDAT 1 LAST\r\nx")
        assert [(await client.read()).code for _ in range(4)] == [250, 250, 552, 503]
        await client.send(b"MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nBDAT 10 LAST\r\n1234567890")
        assert [(await client.read()).code for _ in range(3)] == [250, 250, 250]
    [refused] = [e for e in server.events if isinstance(e, MessageRefused)]
    assert (refused.code, refused.size) == (552, 10)
    assert [e.size for e in server.events if isinstance(e, MessageAccepted)] == [10]


@pytest.mark.parametrize("tls", [False, True])
async def test_a_large_message_in_odd_chunks_over_sockets(tmp_path: Path, tls: bool) -> None:
    rng = random.Random(4)
    content = b"Subject: big\r\n\r\n" + rng.randbytes(12_000_000).replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\0"
    authority = Authority.create()
    authority.issue("localhost", dns=["localhost"]).write(tmp_path, "server")
    more = (
        f'TLS_Certificate = "{tmp_path}/server.pem" TLS_Key = "{tmp_path}/server.key" Spool_Directory = "{tmp_path}/s"'
    )
    got: list[bytes] = []

    async def take(message: Message) -> None:
        with message.body.open() as reader:
            got.append(reader.read())

    def client(port: int) -> list[bytes]:
        sock = socket.create_connection(("127.0.0.1", port), 30)
        file = sock.makefile("rwb")
        file.readline()
        if tls:
            file.write(b"EHLO x\r\nSTARTTLS\r\n")
            file.flush()
            while not file.readline().startswith(b"220"):
                pass
            context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
            sock = context.wrap_socket(sock, server_hostname="localhost")
            file = sock.makefile("rwb")
        file.write(b"EHLO x\r\nMAIL FROM:<a@b.example> BODY=BINARYMIME\r\nRCPT TO:<b@example.com>\r\n")
        file.flush()
        while not file.readline().startswith(b"250 2.1.5"):
            pass
        count = at = 0
        while at < len(content):
            size = rng.choice([0, 1, 2, 3, 511, 4097, 65_535, 262_145, 3_000_001])
            part = content[at : at + size]
            at += len(part)
            file.write(b"BDAT %d%s\r\n%s" % (len(part), b" LAST" if at == len(content) else b"", part))
            count += 1
        file.flush()
        lines = [file.readline() for _ in range(count)]
        sock.close()
        return lines

    config = triosmtp.parse_config(conf(more, "127.0.0.1:0"))
    delivery = FunctionDelivery(take, honours={"BINARYMIME"})
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, config, deliver=delivery))
        lines = await trio.to_thread.run_sync(client, server.addresses["127.0.0.1:0"][1])
        await server.aclose()
    assert {line[:3] for line in lines} == {b"250"}
    assert got == [content]


async def test_one_read_and_one_write_carry_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = [], []
    receive, send = SocketTransport.receive_some, SocketTransport.start_send
    receive_at_once = SocketTransport.receive_now

    async def receive_some(self: SocketTransport, max_bytes: int | None = None) -> bytes:
        data = await receive(self, max_bytes)
        reads.append(bytes(data))
        return data

    def receive_now(self: SocketTransport, max_bytes: int) -> bytes | None:
        data = receive_at_once(self, max_bytes)
        reads.append(data or b"")
        return data

    def start_send(self: SocketTransport, data: bytes) -> bool:
        writes.append(bytes(data))
        return send(self, data)

    monkeypatch.setattr(SocketTransport, "receive_some", receive_some)
    monkeypatch.setattr(SocketTransport, "receive_now", receive_now)
    monkeypatch.setattr(SocketTransport, "start_send", start_send)
    text = conf('Deliver_To = "discard:"', "127.0.0.1:0", '( "ENHANCEDSTATUSCODES" "CHUNKING" )')
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, triosmtp.parse_config(text)))
        async with await trio.open_tcp_stream(*server.addresses["127.0.0.1:0"]) as stream:
            await stream.receive_some()
            await stream.send_all(b"EHLO x\r\n")
            await stream.receive_some()
            reads.clear()
            writes.clear()
            envelope = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@example.com>\r\n"
            for _ in range(2):
                await stream.send_all(envelope + b"RCPT TO:<d@example.com>\r\nBDAT 5 LAST\r\nx: yz")
                answer = b""
                while answer.count(b"\r\n") < 4:
                    answer += bytes(await stream.receive_some())
            assert [len(writes), len(reads)] == [2, 2]
            await stream.send_all(envelope + b"DATA\r\n")
            answer = bytes(await stream.receive_some())
            assert answer.count(b"\r\n") == 3
            await stream.send_all(b"x: y\r\n\r\n.\r\n" + envelope + b"DATA\r\n")
            answer = bytes(await stream.receive_some())
            assert answer.count(b"\r\n") == 4
            assert [len(writes), len(reads)] == [4, 4]
        await server.aclose()


def test_check_reports_extensions_that_the_delivery_does_not_honour(tmp_path: Path) -> None:
    path = tmp_path / "my.conf"
    path.write_text(conf(f'Deliver_To = "maildir:{tmp_path}/M"', ":2525", '( "DSN" "REQUIRETLS" "CHUNKING" )'))
    command = [sys.executable, "-m", "triosmtp", "check", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "SMTP_Extensions: DSN is not offered: " in done.stderr
    assert done.stderr.count("is not offered") == 1
