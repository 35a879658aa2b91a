"""XCLIENT, XREMOTEIP, XDUMPCONTEXT and XSETCONTEXT: whole for those who are trusted, unknown to all others."""

import base64
from pathlib import Path

import pytest

from triosmtp import Policy, Reject, Session
from triosmtp.event import AuthAttempted, Connected, PeerAnnounced
from triosmtp.testing import Answer, MemoryServer, RecordingPolicy, ScriptedClient, open_memory_server

ALL = "XCLIENT XREMOTEIP XDUMPCONTEXT XSETCONTEXT"
CONF = f"""
Relay_Domains = ( "example.com" )
Banner_Hostname = "mx.example.com"
ESMTP_Listener {{
  Listen ":25" {{
    Peer "192.0.2.1" {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES {ALL} ) }}
    Peer "203.0.113.0/24" {{ Static_Banner = "220 for 203.0.113" Relay_Hosts = ( "203.0.113.7" )
      Max_Message_Size = 77 }}
    Peer "203.0.113.99" {{ Require_EHLO = true }}
  }}
}}
"""


async def trusted(server: MemoryServer, peer: str = "192.0.2.1") -> tuple[ScriptedClient, Answer]:
    client = server.connect(peer=peer)
    assert (await client.read()).code == 220
    return client, await client.command("EHLO spokesman.example.org")


async def deliver(client: ScriptedClient, recipient: str = "you@example.com") -> Answer:
    for line in ("MAIL FROM:<me@example.org>", f"RCPT TO:<{recipient}>"):
        answer = await client.command(line)
        if answer.code != 250:
            return answer
    assert (await client.command("DATA")).code == 354
    await client.send(b"Subject: hi\r\n\r\nx\r\n.\r\n")
    return await client.read()


async def test_they_are_offered_to_trusted_peers_and_unknown_to_others() -> None:
    async with open_memory_server(CONF) as server:
        _, offered = await trusted(server)
        assert "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME" in offered.lines
        assert {"XREMOTEIP", "XDUMPCONTEXT", "XSETCONTEXT"} < set(offered.lines)
        other, offered = await trusted(server, "192.0.2.2")
        assert "XCLIENT" not in str(offered.lines)
        for line in ("XCLIENT ADDR=192.0.2.1", "XREMOTEIP 192.0.2.1", "XDUMPCONTEXT", "XSETCONTEXT can_relay=true"):
            assert str(await other.command(line)) == "500 5.5.1 Command not recognized"
        assert (await deliver(other, "x@elsewhere.example")).code == 550


async def test_xclient_restarts_the_session_as_the_named_client() -> None:
    policy = RecordingPolicy()
    async with open_memory_server(CONF, policy=policy) as server:
        client, _ = await trusted(server)
        answer = await client.command(
            "XCLIENT NAME=client.example.net REVERSE_NAME=rev.example.net ADDR=203.0.113.7 PORT=4321 PROTO=ESMTP "
            "HELO=hi.example.net DESTADDR=IPV6:2001:db8::25 DESTPORT=2525"
        )
        assert str(answer) == "220 for 203.0.113"
        again = await client.command("EHLO client.example.net")
        assert "SIZE 77" in again.lines
        assert any(line.startswith("XCLIENT") for line in again.lines)  # it is still the trusted one that connects
        assert (await deliver(client, "x@elsewhere.example")).code == 250
        [session] = server.service.running
        assert (session.session.peer, session.session.local) == ("203.0.113.7:4321", "[2001:db8::25]:2525")
    [message] = server.messages
    assert message.trace.startswith(b"Received: from client.example.net (client.example.net [203.0.113.7])")
    assert message.variables["real_peer"] == "192.0.2.1:1024"
    assert message.variables["xclient_reverse_name"] == "rev.example.net"
    [announced] = [e for e in server.events if isinstance(e, PeerAnnounced)]
    assert (announced.session.peer, announced.real_peer, announced.by) == (
        "203.0.113.7:4321",
        "192.0.2.1:1024",
        "XCLIENT",
    )
    assert len([e for e in server.events if isinstance(e, Connected)]) == 1
    assert [phase for phase, _, _ in policy.calls].count("connect") == 2


async def test_rights_are_those_of_the_peer_that_really_connects() -> None:
    async with open_memory_server(CONF) as server:
        client, _ = await trusted(server)
        assert (await client.command("XCLIENT ADDR=198.51.100.1")).code == 220
        assert (await client.command("XCLIENT ADDR=203.0.113.7")).code == 220
        assert (await client.command("XCLIENT ADDR=198.51.100.1")).code == 220
        assert (await client.command("EHLO x")).code == 250
        assert (await deliver(client, "x@elsewhere.example")).code == 550  # 203.0.113.7's right has gone again
        gaining = server.connect(peer="192.0.2.9")
        assert (await gaining.read()).code == 220
        assert (await gaining.command("XCLIENT ADDR=192.0.2.1")).code == 500
    assert server.service.statistics.sessions == 0


async def test_no_right_is_gained_by_being_proxied() -> None:
    text = CONF.replace(f"( ENHANCEDSTATUSCODES {ALL} )", "( XCLIENT )").replace(
        'Peer "203.0.113.0/24" {', f'Peer "203.0.113.0/24" {{ SMTP_Extensions = ( {ALL} )'
    )
    async with open_memory_server(text) as server:
        client, _ = await trusted(server)
        assert (await client.command("XCLIENT ADDR=203.0.113.7")).code == 220
        offered = await client.command("EHLO x")
        assert [line.split()[0] for line in offered.lines if line.startswith("X")] == ["XCLIENT"]
        assert (await client.command("XSETCONTEXT a=b")).code == 500


async def test_a_login_counts_as_authenticated_until_the_next_xclient() -> None:
    async with open_memory_server(CONF) as server:
        client, _ = await trusted(server)
        assert (await client.command("XCLIENT LOGIN=jo+40example.com ADDR=198.51.100.1 HELO=h PROTO=ESMTP")).code == 220
        assert (await deliver(client, "x@elsewhere.example")).code == 250
        assert (await client.command("XCLIENT LOGIN=[UNAVAILABLE]")).code == 220
        assert (await client.command("EHLO h")).code == 250
        assert (await deliver(client, "x@elsewhere.example")).code == 550
    [message] = server.messages
    assert message.variables["auth_user"] == "jo@example.com"
    assert b"with ESMTPA" in message.trace


async def test_an_unfinished_attempt_counts_for_the_former_client_only(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("jo:secret\n")
    text = f"""
    AuthPlainParameters = [ uri = "file://{passwords}" ]
    Allow_Plaintext_Auth = true Auth_Failure_Delay = 0.001 Max_Auth_Failures = 2
    ESMTP_Listener {{ Listen ":25" {{
      SMTP_Extensions = ( ENHANCEDSTATUSCODES XCLIENT XREMOTEIP "AUTH SCRAM-SHA-256 PLAIN" )
      Peer "203.0.113.0/24" {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES "AUTH PLAIN" ) }}
      Peer "198.51.100.0/24" {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES ) }}
    }} }}"""
    wrong, right = (base64.b64encode(f"\0jo\0{word}".encode()).decode() for word in ("wrong", "secret"))
    first = base64.b64encode(b"n,,n=jo,r=nonce").decode()
    for command in ("XCLIENT ADDR=", "XREMOTEIP "):
        async with open_memory_server(text) as server:
            client, _ = await trusted(server)
            assert (await client.command(f"AUTH PLAIN {wrong}")).code == 535
            assert (await client.command(f"AUTH SCRAM-SHA-256 {first}")).code == 334
            assert (await client.command("no base64")).code == 501  # which ends the exchange, and is reported later
            assert (await client.command(f"{command}203.0.113.7")).code in {220, 250}
            await client.command("EHLO x")
            assert (await client.command(f"AUTH PLAIN {wrong}")).code == 535  # the first failure of this client
            assert (await client.command(f"AUTH PLAIN {right}")).code == 235
            assert (await client.command(f"{command}198.51.100.7")).code in {220, 250}
            assert "AUTH" not in str((await client.command("EHLO x")).lines)
            assert (await client.command(f"AUTH PLAIN {right}")).code == 502
        attempts = [event for event in server.events if isinstance(event, AuthAttempted)]
        assert [(each.session.peer.partition(":")[0], each.reason) for each in attempts] == [
            ("192.0.2.1", "wrong user or password"), ("192.0.2.1", "broken off"),
            ("203.0.113.7", "wrong user or password"), ("203.0.113.7", ""),
        ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "XCLIENT ADDR=203.0.113.7 ADDR=203.0.113.8", "XCLIENT addr=203.0.113.7 PORT=1 Addr=203.0.113.7",
        "XCLIENT LOGIN=jo LOGIN=[UNAVAILABLE]", "XCLIENT NAME=[UNAVAILABLE] NAME=a.example",
        "XSETCONTEXT a=b a=c", "XSETCONTEXT a=b +61=b",
    ],
)  # fmt: skip
async def test_an_attribute_that_is_given_twice_is_refused_and_changes_nothing(line: str) -> None:
    async with open_memory_server(CONF) as server:
        client, _ = await trusted(server)
        assert str(await client.command(line)).startswith("501 5.5.4 ")
        [running] = server.service.running
        assert running.session.peer == "192.0.2.1:1024"
        assert "a" not in running.session.variables


async def test_an_unknown_address_is_no_address() -> None:
    async with open_memory_server(CONF) as server:
        client, _ = await trusted(server)
        assert (await client.command("XCLIENT ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL]")).code == 220
        [running] = server.service.running
        assert (running.session.peer, running.session.peer_address) == ("unknown", None)


async def test_a_hello_is_demanded_again_unless_xclient_brought_one() -> None:
    async with open_memory_server(CONF) as server:
        client, _ = await trusted(server)
        assert (await client.command("XCLIENT ADDR=203.0.113.99")).code == 220
        assert (await client.command("MAIL FROM:<>")).code == 503
        assert (await client.command("XCLIENT ADDR=203.0.113.99 HELO=there")).code == 220
        assert (await client.command("MAIL FROM:<>")).code == 250


async def test_not_within_a_transaction_and_not_malformed() -> None:
    async with open_memory_server(CONF) as server:
        client, _ = await trusted(server)
        for bad in (
            "XCLIENT", "XCLIENT ADDR", "XCLIENT =x", "XCLIENT WHO=x", "XCLIENT ADDR=1.2.3", "XCLIENT ADDR=IPV6:1.2.3.4",
            "XCLIENT PORT=70000", "XCLIENT PROTO=HTTP", "XCLIENT NAME=a+0D+0Ab", "XCLIENT HELO=a+20b",
            "XCLIENT LOGIN=+0A", "XCLIENT LOGIN=+zz", f"XCLIENT LOGIN={'x' * 256}", "XCLIENT ADDR=fe80::1+25eth0",
            "XREMOTEIP", "XREMOTEIP x", "XREMOTEIP 1.2.3.4 5", "XDUMPCONTEXT x", "XSETCONTEXT", "XSETCONTEXT a",
            "XSETCONTEXT a=+0D", "XSETCONTEXT a+0A=b", "XSETCONTEXT tls=on", "XSETCONTEXT tls_client_verified=yes",
            "XSETCONTEXT ccert_subject=x", "XSETCONTEXT real_peer=x", "XSETCONTEXT proxy_ssl=on",
        ):  # fmt: skip
            assert (await client.command(bad)).code in {501, 421}, bad
            if bad == "XREMOTEIP x":
                client, _ = await trusted(server)  # errors are counted as of every peer
        assert (await client.command("MAIL FROM:<me@example.org>")).code == 250
        for line in ("XCLIENT ADDR=203.0.113.7", "XREMOTEIP 203.0.113.7"):
            assert (await client.command(line)).code == 503
        assert (await client.command("RCPT TO:<you@example.com>")).code == 250


class Forbidding(Policy):
    async def validate_connect(self, session: Session) -> None:
        if str(session.peer_address) == "203.0.113.66":
            raise Reject(554, "5.7.1", "not you")


@pytest.mark.parametrize("command", ["XCLIENT ADDR=203.0.113.66", "XREMOTEIP 203.0.113.66"])
async def test_policy_is_asked_about_the_new_peer(command: str) -> None:
    async with open_memory_server(CONF, policy=Forbidding()) as server:
        client, _ = await trusted(server)
        answer = await client.command(command)
        assert (answer.code, "not you" in answer.text) == (554, True)
        assert (await client.command("MAIL FROM:<>")).code == 503
        assert (await client.command("QUIT")).code == 221


async def test_xremoteip_changes_the_address_and_keeps_the_hello() -> None:
    async with open_memory_server(CONF) as server:
        client, _ = await trusted(server)
        assert (await client.command("XREMOTEIP 203.0.113.7")).code == 250
        assert (await client.command("MAIL FROM:<a@example.org> SIZE=78")).code == 552
        assert (await deliver(client, "x@elsewhere.example")).code == 250
        assert (await client.command("XREMOTEIP 198.51.100.4")).code == 250
        assert (await deliver(client, "x@elsewhere.example")).code == 550
    assert server.messages[0].trace.startswith(b"Received: from spokesman.example.org ([203.0.113.7])")


async def test_the_context_is_dumped_and_set() -> None:
    async with open_memory_server(CONF) as server:
        client, _ = await trusted(server)
        assert (await client.command("XSETCONTEXT mood=good+20one can_relay=true")).code == 250
        assert (await client.command("MAIL FROM:<me@example.org>")).code == 250
        [running] = server.service.running
        running.session.variables["evil"] = "a\r\n250 done\r\nb"
        dump = await client.command("XDUMPCONTEXT")
        assert dump.code == 250
        assert dump.lines[-1] == "XDUMPCONTEXT complete"
        assert "[connection] mood good one" in dump.lines
        assert "[connection] evil a??250 done??b" in dump.lines
        assert "[message] mailfrom_domain example.org" in dump.lines
        assert (await client.command("RCPT TO:<x@elsewhere.example>")).code == 250


async def test_the_number_of_variables_is_bounded() -> None:
    async with open_memory_server(CONF) as server:
        client, _ = await trusted(server)
        codes = set()
        for start in range(0, 1200, 100):
            pairs = " ".join(f"v{start + i}=x" for i in range(100))
            codes.add((await client.command(f"XSETCONTEXT {pairs}")).code)
        assert codes == {250, 452}
