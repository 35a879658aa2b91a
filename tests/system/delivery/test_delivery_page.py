"""The examples of the page about delivery."""

import re
import sys
from pathlib import Path

import pytest
from tls_peers import client_context, foreign_root, root, server_credential

from triosmtp import load_config
from triosmtp.testing import open_memory_server

PAGE = (Path(__file__).parents[3] / "docs/delivery.md").read_text()
BODY = b"Subject: x\r\n\r\nx\r\n"


BLOCKS = [text for _, text in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]


def example(word: str) -> str:
    """Return the block of code that contains a word."""
    (found,) = (block for block in BLOCKS if word in block)
    return str(found)


@pytest.fixture(autouse=True)
def no_module_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


async def test_mail_with_a_certificate_that_failed_goes_to_the_quarantine(tmp_path: Path) -> None:
    certificate, key = server_credential().write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(root().certificate_pem)
    (tmp_path / "quarantine.py").write_text(example("class Quarantine"))
    scope = example('Delivery "quarantine"').replace("/var/mail", str(tmp_path))
    (tmp_path / "c.conf").write_text(f"""
        Relay_Domains = ( "example.com" ) Deliver_To = "maildir:{tmp_path}/inbox"
        Policy = "python:quarantine:Quarantine" {scope}
        TLS_Certificate = "{certificate}" TLS_Key = "{key}" TLS_Client_CA = "{tmp_path}/ca.pem"
        ESMTP_Listener {{ SMTP_Extensions = ( STARTTLS ) Listen "127.0.0.1:25" {{ }} }}
    """)
    client_credentials = {
        "verified": root().issue("client", usage=["client"]),
        "foreign": foreign_root().issue("client", usage=["client"]),
        "none": None,
        "plain": None,
    }
    async with open_memory_server(load_config(tmp_path / "c.conf"), use_deliver_to=True) as server:
        for name, credential in client_credentials.items():
            client = server.connect()
            await client.read()
            await client.command("EHLO client.example")
            if name != "plain":
                await client.starttls(client_context(credential=credential), "localhost")
                await client.command("EHLO client.example")
            assert (await client.message(f"{name}@far.example", ["u@example.com"], BODY)).code == 250

    def senders(folder: str) -> set[str]:
        texts = [path.read_text() for path in (tmp_path / folder / "new").iterdir()]
        return {re.findall("^Return-Path: <(.*)@", text)[0] for text in texts}

    assert senders("quarantine") == {"foreign"}
    assert senders("inbox") == {"verified", "none", "plain"}
