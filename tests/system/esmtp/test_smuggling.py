"""Every end of data that some server once took for one: a mailbox gets one message or none, never two."""

import itertools
from functools import partial
from pathlib import Path

import pytest
import trio

import triosmtp
from triosmtp.testing import ScriptedClient, open_memory_server

INNER = (
    b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n.\r\n"
)
BREAKS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\n\r",
    b"\0\r\n",
    b"\r\0\n",
    b"\n\0",
    b"\x0b",
    b"\x85",
    b"\xe2\x80\xa8",
    b"",
]
FAMILY = sorted(
    {
        before + dot + after
        for before, dot, after in itertools.product(BREAKS, (b".", b"..", b"\0.", b".\0"), BREAKS)
        if (before, dot, after) != (b"\r\n", b".", b"\r\n") and not (before + dot + after).endswith(b"\r\n.\r\n")
    }
)
CONF = """
Deliver_To = "maildir:{folder}/Maildir"
Relay_Domains = ( "example.com" )
Max_Command_Errors = 0
Max_Junk_Commands = 0
{more}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "CHUNKING" ) }} }}
"""


@pytest.mark.parametrize("mode", ["pedantic", "fix", "ignore"])
@pytest.mark.parametrize("way", ["whole", "split", "bdat"])
async def test_one_message_or_none(tmp_path: Path, mode: str, way: str) -> None:
    more = f"RFC2822_Lone_LF_In_Headers = {mode} RFC2822_Lone_LF_In_Body = {mode}"
    config = triosmtp.parse_config(CONF.format(folder=tmp_path, more=more))
    new = tmp_path / "Maildir" / "new"
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, config))
        client = ScriptedClient(await trio.open_tcp_stream(*server.addresses["127.0.0.1:0"]))
        await client.read()
        await client.command("EHLO x")
        for ending in FAMILY if way == "whole" else FAMILY[::7]:
            before = len(list(new.iterdir())) if new.exists() else 0
            assert (await client.command("MAIL FROM:<a@example.org>")).code == 250
            assert (await client.command("RCPT TO:<b@example.com>")).code == 250
            body = b"Subject: x\r\n\r\nfirst" + ending + INNER.replace(b"\r\n.\r\n", b"\r\n")
            if way == "bdat":
                cut = len(b"Subject: x\r\n\r\nfirst" + ending) - 1
                await client.send(b"BDAT %d\r\n%s" % (cut, body[:cut]))
                first = await client.read()
                await client.send(b"BDAT %d LAST\r\n%s" % (len(body) - cut, body[cut:]))
                final = await client.read()
                assert final.code in ({250, 550} if first.code == 250 else {503})
            else:
                assert (await client.command("DATA")).code == 354
                data = body + b"\r\n.\r\n"
                for part in [data] if way == "whole" else [data[i : i + 1] for i in range(len(data))]:
                    await client.send(part)
                final = await client.read()
                assert final.code in {250, 550}
            assert (await client.command("NOOP")).code == 250
            assert len(list(new.iterdir()) if new.exists() else []) == before + (final.code == 250), ending
        await client.aclose()
        await server.aclose()
    for path in new.iterdir() if new.exists() else []:
        text = path.read_bytes()
        assert text.count(b"Subject: x") == 1
        assert b"first" in text


@pytest.mark.parametrize("policy", ["reject", "ignore"])
async def test_no_octet_after_starttls_is_a_command(policy: str, tmp_path: Path) -> None:
    authority = triosmtp.testing.Authority.create()
    authority.issue("localhost", dns=["localhost"]).write(tmp_path, "server")
    conf = f"""
    Relay_Domains = ( "example.com" )
    ESMTP_Listener {{ Listen ":25" {{
      Starttls_Injection_Policy = {policy}
      TLS_Certificate = "{tmp_path}/server.pem" TLS_Key = "{tmp_path}/server.key"
      SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" "CHUNKING" )
    }} }}
    """
    data = b"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<b@example.com>\r\nBDAT 3 LAST\r\nabc"
    end = data.index(b"MAIL")
    async with open_memory_server(conf) as server:
        for cut in range(end + 1, len(data)):  # what is cut at the end of STARTTLS itself came behind its reply
            client = server.connect()
            await client.read()
            await client.send(data[:cut])
            await client.send(data[cut:])
            said = await client.read_eof() if policy == "reject" else b""
            if policy == "reject":
                assert said.count(b"554 5.7.0 ") == 1
                assert said.endswith(b"not accepted\r\n")
            await client.aclose()
    assert not server.messages
    assert not [event for event in server.events if type(event).__name__ == "MessageAccepted"]
