"""STARTTLS and TLS from the first byte, on memory streams: the outcome is in the variables, and the session goes on."""

import ssl

import pytest
import trio
from tls_stanza import Material, secured

from triosmtp import DONE, Reject
from triosmtp.event import Disconnected, MessageAccepted, TLSEstablished, TLSFailed
from triosmtp.testing import RecordingPolicy, open_memory_server
from triosmtp.tls import TLSStream


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("name", "verified", "error"),
    [
        ("good", "yes", None),
        ("expired", "no", "certificate has expired"),
        ("foreign", "no", "unable to get local issuer certificate"),
        (None, "no", "no certificate presented"),
    ],
)
async def test_every_client_certificate_is_accepted_and_classified(
    material: Material, version: ssl.TLSVersion, name: str | None, verified: str, error: str | None
) -> None:
    context = material.client(name)
    context.minimum_version = context.maximum_version = version
    async with open_memory_server(material.conf(), policy=RecordingPolicy({"mailfrom": DONE})) as server:
        client = await secured(server, context)
        answer = await client.command("EHLO after.example.org")
        assert "STARTTLS" not in answer.lines
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
        assert (await client.command("QUIT")).code == 221
    variables = server.messages[0].variables
    assert variables["tls"] == "on"
    assert variables["tls_protocol"] == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    assert variables["tls_client_verified"] == verified
    assert variables.get("tls_client_verify_error") == error
    assert variables.get("tls_client_cert_subject_cn") == (None if name is None else f"{name}.example")
    assert variables["ehlo_domain"] == "after.example.org"
    received = server.messages[0].trace
    assert b"with ESMTPS" in received
    assert variables["tls_protocol"].encode() in received
    [established] = [e for e in server.events if isinstance(e, TLSEstablished)]
    assert established.tls.verified == (verified == "yes")
    [accepted] = [e for e in server.events if isinstance(e, MessageAccepted)]
    assert accepted.tls == established.tls


async def test_require_refuses_mail_without_a_certificate_and_the_session_continues(material: Material) -> None:
    async with open_memory_server(material.conf()) as server:
        client = await secured(server, material.client())
        await client.command("EHLO c.example.org")
        answer = await client.command("MAIL FROM:<a@example.org>")
        assert str(answer)[:9] == "550 5.7.1"
        assert (await client.command("NOOP")).code == 250
        assert (await client.command("QUIT")).code == 221


async def test_require_leaves_an_invalid_certificate_to_policy(material: Material) -> None:
    async with open_memory_server(material.conf()) as server:
        client = await secured(server, material.client("foreign"))
        await client.command("EHLO c.example.org")
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 250


async def test_require_does_not_affect_sessions_without_tls(material: Material) -> None:
    async with open_memory_server(material.conf()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO c.example.org")
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250


async def test_a_verified_peer_may_relay_where_the_option_says_so(material: Material) -> None:
    async with open_memory_server(material.conf("TLS_Verified_Peer_Can_Relay = true")) as server:
        for name, code in (("good", 250), ("foreign", 550)):
            client = await secured(server, material.client(name))
            await client.command("EHLO c.example.org")
            answer = await client.message("a@example.org", ["x@elsewhere.example"], b"x: y\r\n\r\n")
            assert answer.code == code, name
    assert server.messages[0].variables["can_relay"] == "true"


async def test_starttls_resets_the_session(material: Material) -> None:
    class Trusting(RecordingPolicy):
        async def validate_ehlo(self, session, domain):  # type: ignore[no-untyped-def]  # as in the base
            await super().validate_ehlo(session, domain)
            if domain == "before.example.org":
                session.variables["can_relay"] = "true"

    policy = Trusting()
    async with open_memory_server(material.conf("Context = [ ehlo_note = kept ]"), policy=policy) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO before.example.org")
        await client.command("MAIL FROM:<early@example.org>")
        assert (await client.starttls(material.client("good"))).code == 220
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 503
        assert (await client.command("RCPT TO:<b@example.com>")).code == 503
        await client.command("EHLO after.example.org")
        answer = await client.message("a@example.org", ["x@elsewhere.example"], b"x: y\r\n\r\n")
        assert answer.code == 550
    starttls = policy.calls[policy.phases.index("starttls")][2]
    assert "ehlo_domain" not in starttls
    assert "can_relay" not in starttls
    assert starttls["ehlo_note"] == "kept"


async def test_what_policy_wrote_since_connect_is_forgotten(material: Material) -> None:
    class Writing(RecordingPolicy):
        async def validate_connect(self, session):  # type: ignore[no-untyped-def]  # as in the base
            session.variables["partner"] = "by address"
            session.add_header("X-Connect", "1")

        async def validate_ehlo(self, session, domain):  # type: ignore[no-untyped-def]  # as in the base
            session.variables["partner"] = session.variables["said"] = domain
            session.add_header("X-Hello", domain)

        async def validate_mailfrom(self, session, sender, parameters):  # type: ignore[no-untyped-def]  # as in the base
            session.variables["early"] = str(sender)

        async def validate_starttls(self, session, tls):  # type: ignore[no-untyped-def]  # as in the base
            seen.append(dict(session.variables))

    seen: list[dict[str, str]] = []
    async with open_memory_server(material.conf(), policy=Writing()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO before.example.org")
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
        assert (await client.starttls(material.client("good"))).code == 220
        await client.command("EHLO after.example.org")
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
    [variables] = seen
    assert (variables["partner"], variables["connection_message_count"]) == ("by address", "1")
    assert not {"said", "early"} & variables.keys()
    assert server.messages[1].variables["said"] == "after.example.org"
    assert server.messages[1].trace.endswith(b"\r\nX-Connect: 1\r\nX-Hello: after.example.org\r\n")


async def test_commands_injected_behind_starttls_end_the_session(material: Material) -> None:
    async with open_memory_server(material.conf()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO c.example.org")
        await client.send(b"STARTTLS\r\nMAIL FROM:<evil@example.org>\r\n")
        assert str(await client.read())[:9] == "554 5.7.0"
        assert await client.read_eof() == b""
    assert [e.reason for e in server.events if isinstance(e, Disconnected)] == ["protocol_error"]
    [failed] = [e for e in server.events if isinstance(e, TLSFailed)]
    assert (failed.reason, failed.detail) == (
        "injection",
        "STARTTLS injection: plaintext input after STARTTLS",
    )
    assert server.service.limits.handshakes.under_way == 0


async def test_injected_commands_may_be_ignored(material: Material) -> None:
    async with open_memory_server(material.conf("Starttls_Injection_Policy = ignore")) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO c.example.org")
        await client.send(b"STARTTLS\r\nMAIL FROM:<evil@example.org>\r\n")
        assert (await client.read()).code == 220
        await client.handshake(material.client())
        await client.command("EHLO c.example.org")
        assert (await client.command("RCPT TO:<b@example.com>")).code == 503


async def test_injected_commands_may_be_allowed_as_sent_before_tls(material: Material) -> None:
    async with open_memory_server(material.conf("Starttls_Injection_Policy = allow")) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO c.example.org")
        await client.send(b"STARTTLS\r\nNOOP\r\nMAIL FROM:<evil@example.org>\r\n")
        assert [(await client.read()).code for _ in range(3)] == [220, 250, 250]
        await client.handshake(material.client())
        await client.command("EHLO c.example.org")
        assert (await client.command("RCPT TO:<b@example.com>")).code == 503


async def test_a_handshake_that_fails_ends_the_connection(material: Material) -> None:
    async with open_memory_server(material.conf()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO c.example.org")
        assert (await client.command("STARTTLS")).code == 220
        await client.send(b"MAIL FROM:<a@example.org>\r\n")
        assert b"250" not in await client.read_eof()
    [failed] = [e for e in server.events if isinstance(e, TLSFailed)]
    assert failed.reason == "not_tls"
    assert [e.reason for e in server.events if isinstance(e, Disconnected)] == ["tls_failed"]


@pytest.mark.parametrize(
    ("limit", "sent", "seconds", "detail"),
    [
        (7, b"", 7, "after 7 s"),
        (60, b"", 10, "no ClientHello within 10 s"),
        (60, b"\x16\x03\x01", 60, "after 60 s"),  # a ClientHello has begun
    ],
)
async def test_a_client_that_never_shakes_hands_is_cut_off(
    material: Material, limit: int, sent: bytes, seconds: int, detail: str, autojump_clock: object
) -> None:
    async with open_memory_server(material.conf(f"TLS_Handshake_Timeout = {limit}")) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO c.example.org")
        begun = trio.current_time()
        assert (await client.command("STARTTLS")).code == 220
        await client.send(sent)
        await client.read_eof()
        assert trio.current_time() - begun == pytest.approx(seconds, abs=1.1)
    assert [(e.reason, e.detail) for e in server.events if isinstance(e, TLSFailed)] == [("timed_out", detail)]
    assert [e.reason for e in server.events if isinstance(e, Disconnected)] == ["tls_failed"]


@pytest.mark.parametrize("code", [550, 450])
async def test_after_a_refusal_at_starttls_each_command_is_refused(material: Material, code: int) -> None:
    policy = RecordingPolicy({"starttls": Reject(code, text="your certificate is on the list")})
    async with open_memory_server(material.conf(), policy=policy) as server:
        client = await secured(server, material.client("good"))
        for line in ("EHLO c.example.org", "HELO c.example.org", "MAIL FROM:<a@example.org>"):
            answer = await client.command(line)
            assert answer.code == code
            assert "your certificate is on the list" in answer.text
        assert (await client.command("QUIT")).code == 221
    assert policy.phases == ["connect", "ehlo", "starttls"]


def implicit(material: Material, more: str = "") -> str:
    return material.conf(f"Use_SSL = true {more}", **{'"STARTTLS"': ""})


async def test_tls_from_the_first_byte(material: Material) -> None:
    policy = RecordingPolicy()
    async with open_memory_server(implicit(material), policy=policy) as server:
        client = server.connect()
        await client.handshake(material.client("good"))
        assert (await client.read()).code == 220
        answer = await client.command("EHLO c.example.org")
        assert "STARTTLS" not in answer.lines
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
    assert policy.phases[:3] == ["connect", "starttls", "ehlo"]
    assert server.messages[0].variables["tls_client_verified"] == "yes"


@pytest.mark.parametrize("phase", ["connect", "starttls"])
async def test_under_use_ssl_a_refusal_replaces_the_banner(material: Material, phase: str) -> None:
    policy = RecordingPolicy({phase: Reject(554, "5.7.1", "not you")})  # type: ignore[dict-item]  # a phase as text
    async with open_memory_server(implicit(material), policy=policy) as server:
        client = server.connect()
        await client.handshake(material.client("good"))
        assert str(await client.read()) == "554 not you"
        assert (await client.command("EHLO c.example.org")).code == 503
        assert (await client.command("QUIT")).code == 221


async def test_a_peer_may_have_a_rule_of_its_own(material: Material) -> None:
    text = material.conf(
        'Peer "192.0.2.0/24" { TLS_Verify_Mode = none }  Peer "198.51.100.0/24" { TLS_Certificate = none }'
    )
    async with open_memory_server(text) as server:
        client = await secured(server, material.client("good"))
        await client.command("EHLO c.example.org")
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
        other = server.connect(peer="198.51.100.7")
        await other.read()
        assert "STARTTLS" not in (await other.command("EHLO c.example.org")).lines
        assert (await other.command("STARTTLS")).code in {502, 503}
    assert "tls_client_cert_subject" not in server.messages[0].variables


async def test_a_command_that_comes_as_the_server_gives_up_waiting_is_answered_421(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = TLSStream.receive_some
    async with open_memory_server(material.conf()) as server:

        async def receive_and_drain(stream: TLSStream[trio.abc.Stream], size: int | None = None) -> bytes:
            data = await receive(stream, size)
            if data == b"QUIT\r\n":  # the drain begins before the server goes on
                server.service.draining = True
                for session in server.service.running:
                    session.drain()
            return bytes(data)

        monkeypatch.setattr(TLSStream, "receive_some", receive_and_drain)
        client = await secured(server, material.client("good"))
        assert (await client.command("EHLO c.example.org")).code == 250
        assert str(await client.command("QUIT")) == "421 4.3.2 Service shutting down"
