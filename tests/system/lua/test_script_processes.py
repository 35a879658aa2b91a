"""The scripts of the acceptance tests together, in a server with one process and in one with two workers."""

import smtplib
from pathlib import Path

import pytest
from lua_site import CLIENTS, MOMENTUM, client_context, configuration
from serve_process import run_server


def site(folder: Path, workers: int) -> Path:
    """Write a configuration with all five scripts."""
    nets = folder / "nets.txt"
    nets.write_text("127.0.0.0/8:partner\n")
    (folder / "cert_relay.lua").write_text(
        (MOMENTUM / "cert_relay.lua").read_text().replace("/etc/mail/partner-nets.txt", str(nets))
    )
    sources = {path.stem: str(path) for path in sorted(MOMENTUM.glob("*.lua"))}
    sources["cert_relay"] = "cert_relay"
    more = f'Workers = {workers} Deliver_To = "maildir:{folder}/mail"'
    path = folder / "ecelerity.conf"
    path.write_text(configuration(sources, more=more).replace("127.0.0.1:2525", "127.0.0.1:0"))
    return path


def client_of(port: int, kind: str) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", port, timeout=60, local_hostname="client.example.org")
    client.ehlo()
    if kind != "plaintext":
        client.starttls(context=client_context(kind))
        client.ehlo()
    return client


EXPECTED = {
    # The codes of MAIL from the bank, of RCPT to a foreign domain, to intra, to hr and to a public domain.
    "plaintext": (530, 550, 530, 530, 250), "none": (550, 550, 250, 550, 250), "bad": (550, 550, 250, 550, 250),
    "good": (250, 250, 250, 250, 250),
}  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_every_session_gets_what_the_scripts_say(tmp_path: Path, workers: int) -> None:
    path = site(tmp_path, workers)
    with run_server("-c", str(path), "--control", str(tmp_path / "control"), log=tmp_path / "log") as server:
        port = server.port()
        server.wait_until_ready()
        held = []  # so that both workers have sessions
        for kind in (*CLIENTS, *CLIENTS):
            client = client_of(port, kind)
            held.append(client)
            bank = client.mail("a@bank.example")[0]
            client.rset()
            client.mail("a@example.org")
            domains = ("foreign.example", "intra.example.net", "hr.example.net", "www.example.net")
            codes = (bank, *(client.rcpt(f"b@{domain}")[0] for domain in domains))
            assert codes == EXPECTED[kind], kind
            assert client.data(f"Subject: {kind}\r\nX-TLS-Facts: forged\r\n\r\nbody\r\n")[0] == 250
        greeting = smtplib.SMTP("127.0.0.1", port, timeout=60)
        assert greeting.docmd("EHLO one.example.org")[0] == 250
        for client in (*held, greeting):
            client.quit()
    texts = [file.read_bytes() for file in (tmp_path / "mail" / "new").iterdir()]
    assert all(text.count(b"X-TLS-Facts: ") == 1 and b"forged" not in text for text in texts)
    for kind in CLIENTS:
        copies = [text for text in texts if f"Subject: {kind}".encode() in text]
        assert len(copies) >= 2
        assert any(b"X-Client-CN: MX12.partner.example" in text for text in copies) == (kind == "good")
