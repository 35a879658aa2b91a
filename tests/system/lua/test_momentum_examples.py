"""Five scripts of Momentum's users run as they stand: what each session must get."""

from pathlib import Path

import pytest
import trio.testing
from lua_site import CLIENTS, MOMENTUM, client_context, greeted, scripted_server

from triosmtp.errors import ConfigError

BODY = b"Subject: a\r\n\r\nbody\r\n"


async def test_bank_mail_needs_a_verified_certificate(tmp_path: Path) -> None:
    expected = {
        "plaintext": "530 5.7.0 bank.example is taken over TLS only",
        "none": "550 5.7.1 no verified certificate for bank.example",
        "bad": "550 5.7.1 no verified certificate for bank.example",
        "good": "250 2.1.0 Sender ok",
    }
    async with scripted_server(tmp_path, {"sender_cert": str(MOMENTUM / "sender_cert.lua")}) as server:
        for kind in CLIENTS:
            client = await greeted(server, kind)
            answer = await client.command("MAIL FROM:<a@Bank.Example>")
            assert str(answer).startswith(expected[kind][:18]), (kind, answer)
            assert (answer.code, kind == "good") in {(250, True), (530, False), (550, False)}
            await client.command("RSET")
            for sender in ("a@example.org", ""):
                answer = await client.command(f"MAIL FROM:<{sender}>")  # the session goes on
                assert answer.code == 250, (kind, sender, answer)
                await client.command("RSET")
            await client.aclose()


async def test_partners_with_certificate_and_address_may_relay(tmp_path: Path) -> None:
    nets = tmp_path / "partner-nets.txt"
    nets.write_text("192.0.2.0/24:partner\n")
    script = (MOMENTUM / "cert_relay.lua").read_text().replace("/etc/mail/partner-nets.txt", str(nets))
    cases = [
        ("good", "192.0.2.1", "MX12.partner.example", True),
        ("good", "192.0.2.1", "other.partner.example", False),
        ("good", "198.51.100.1", "MX12.partner.example", False),
        ("bad", "192.0.2.1", "MX12.partner.example", False),
        ("none", "192.0.2.1", "MX12.partner.example", False),
        ("plaintext", "192.0.2.1", "MX12.partner.example", False),
    ]
    async with scripted_server(tmp_path, {"cert_relay": script}) as server:
        for kind, peer, name, relays in cases:
            client = await greeted(server, kind, peer=peer, name=name)
            for _ in range(2):  # in the next message too
                assert (await client.command("MAIL FROM:<a@example.org>")).code == 250
                answer = await client.command("RCPT TO:<b@foreign.example>")
                assert answer.code == (250 if relays else 550), (kind, peer, name, answer)
                if not relays:
                    assert "relaying denied" in answer.text
                assert (await client.command("RCPT TO:<b@example.net>")).code == 250
                await client.command("RSET")
            await client.aclose()


async def test_a_missing_file_of_networks_fails_the_load(tmp_path: Path) -> None:
    script = (MOMENTUM / "cert_relay.lua").read_text().replace("/etc/mail/", f"{tmp_path}/")
    with pytest.raises(ConfigError, match=r"init of cert_relay: .*partner-nets.txt"):
        async with scripted_server(tmp_path, {"cert_relay": script}):
            pass


async def test_facts_of_tls_are_in_one_field_on_top(tmp_path: Path) -> None:
    async with scripted_server(tmp_path, {"tls_facts": str(MOMENTUM / "tls_facts.lua")}) as server:
        for kind in CLIENTS:
            client = await greeted(server, kind)
            body = b"X-TLS-Facts: forged\r\nSubject: a\r\nX-Tls-Facts: two\r\n more\r\n\r\nX-TLS-Facts: in the body\r\n"
            answer = await client.message("a@example.org", ["b@example.net"], body)
            assert answer.code == 250, answer
            await client.aclose()
            header, _, text = server.messages[-1].body.partition(b"\r\n\r\n")
            lines = header.split(b"\r\n")
            assert [line for line in lines if line.lower().startswith(b"x-tls-facts")] == [lines[0]], kind
            fact = lines[0].decode()
            if kind == "plaintext":
                assert fact == "X-TLS-Facts: tls=none cipher=none bits=none"
            else:
                assert fact.startswith("X-TLS-Facts: tls=on cipher=TLS_")
                assert ("subject=" in fact) == (kind == "good")
                if kind == "good":
                    assert fact.endswith('subject="CN=MX12.partner.example"')
            assert b"forged" not in header
            assert b"more" not in header
            assert text == b"X-TLS-Facts: in the body\r\n"


async def test_wrong_greetings_are_held_back_and_counted(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    peers = 'Peer "203.0.113.0/24" { Context = [ old_scanner = "yes" ] }'
    async with scripted_server(tmp_path, {"greeting": str(MOMENTUM / "greeting.lua")}, peers=peers) as server:
        for name in ("mail", "mx.example.net"):
            client = server.connect()
            await client.read()
            for _ in range(2):
                began = autojump_clock.current_time()
                answer = await client.command(f"EHLO {name}")
                assert str(answer) == "550 greet with your own full name"
                assert autojump_clock.current_time() - began >= 2
            answer = await client.command(f"HELO {name}")
            assert str(answer) == "421 too many wrong greetings"
            assert await client.read_eof() == b""
        for name in ("[192.0.2.1]", "a.example.org"):
            client = server.connect()
            await client.read()
            began = autojump_clock.current_time()
            assert (await client.command(f"EHLO {name}")).code == 250
            assert autojump_clock.current_time() - began < 1
            await client.aclose()


async def test_starttls_does_not_reset_the_count_of_wrong_greetings(tmp_path: Path) -> None:
    script = (MOMENTUM / "greeting.lua").read_text().replace("tarpit(2)", "tarpit(0)")
    async with scripted_server(tmp_path, {"greeting": script}) as server:
        client = await greeted(server)
        assert (await client.command("EHLO one")).code == 550
        assert (await client.command("EHLO two")).code == 550
        await client.starttls(client_context("none"))
        assert (await client.command("EHLO three")).code == 421
        assert await client.read_eof() == b""


async def test_an_old_scanner_is_not_offered_starttls(tmp_path: Path) -> None:
    peers = 'Peer "203.0.113.0/24" { Context = [ old_scanner = "yes" ] }'
    async with scripted_server(tmp_path, {"greeting": str(MOMENTUM / "greeting.lua")}, peers=peers) as server:
        for peer, offered in (("203.0.113.5", False), ("192.0.2.1", True)):
            client = server.connect(peer=peer)
            await client.read()
            answer = await client.command("EHLO a.example.org")
            assert ("STARTTLS" in answer.lines) == offered
            assert ((await client.command("STARTTLS")).code == 220) == offered


async def test_each_recipient_has_its_rule_and_its_copy(tmp_path: Path) -> None:
    codes = {
        "plaintext": (530, 530, 250), "none": (250, 550, 250), "bad": (250, 550, 250), "good": (250, 250, 250),
    }  # fmt: skip
    more = 'Relay_Domains = ( "*.example.net" "example.net" )'
    async with scripted_server(tmp_path, {"rcpt_rules": str(MOMENTUM / "rcpt_rules.lua")}, more=more) as server:
        for kind in CLIENTS:
            client = await greeted(server, kind)
            assert (await client.command("MAIL FROM:<a@example.org>")).code == 250
            got = [
                (await client.command(f"RCPT TO:<b@{domain}.example.net>")).code for domain in ("intra", "hr", "public")
            ]
            assert tuple(got) == codes[kind], kind
            assert (await client.command("DATA")).code == 354
            await client.send(b"X-Client-CN: forged\r\nSubject: a\r\n\r\nbody\r\n.\r\n")
            assert (await client.read()).code == 250
            await client.aclose()
            copies = {message.recipients: message.body for message in server.messages}
            server.messages.clear()
            assert all(b"forged" not in body for body in copies.values()), kind
            for recipients, body in copies.items():
                for recipient in recipients:
                    has = b"X-Client-CN: MX12.partner.example" in body
                    assert has == ("@hr." in recipient), (kind, recipient)
            if kind == "good":
                assert len(copies) == 2
