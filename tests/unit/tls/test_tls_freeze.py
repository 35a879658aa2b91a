"""One client with a hostile chain in a loop against a server in a process of its own: others are served on."""

import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hostile_chain import hostile_chain
from tls_peers import JUDGE, client_context, server_credential, settings

from triosmtp.x509.authority import Credential

CONF = """
Relay_Domains = ( "example.com" )
Deliver_To = "maildir:{folder}/Maildir"
Spool_Directory = "{folder}/spool"
Workers = {workers}
ESMTP_Listener {{
  TLS_Certificate = "{certificate}" TLS_Key = "{key}" TLS_Client_CA = "{bundle}" TLS_Verify_Mode = optional
  Max_Junk_Commands = 0
  Listen "127.0.0.1:0" {{ Use_SSL = true }}
}}
"""
CHAINS = {"94 KB": (8, 1010), "62 KB": (8, 650), "31 KB": (8, 310), "4 KB": (2, 140)}
"""Certificates, and names in each."""


@contextmanager
def serving(folder: Path, workers: int) -> Iterator[int]:
    certificate, key = server_credential().write(folder, "server")
    path = folder / "t.conf"
    bundle = settings().client_ca
    path.write_text(CONF.format(folder=folder, workers=workers, certificate=certificate, key=key, bundle=bundle))
    command = [sys.executable, "-m", "triosmtp", "serve", "-c", str(path), "--control", str(folder / "control")]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        line = ""
        while not line.startswith("Listen"):
            line = process.stdout.readline()
            assert line, (folder / "log").read_text()
        try:
            yield int(line.rpartition(" ")[2])
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    assert "Traceback" not in (folder / "log").read_text()


def attack(port: int, credential: Credential, ended: threading.Event, tries: int | None) -> int:
    """Connect again and again; return how often."""
    context, count = client_context(credential=credential), 0
    while not ended.is_set() and count != tries:
        count += 1
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 30) as sock,
            context.wrap_socket(sock) as stream,
        ):
            stream.recv(100)
    return count


def round_trips(port: int, seconds: float, most: int) -> list[float]:
    """Send NOOP again and again; return how long each reply took."""
    taken: list[float] = []
    with (
        socket.create_connection(("127.0.0.1", port), 30) as sock,
        client_context(credential=None).wrap_socket(sock) as stream,
    ):
        for line in (b"", b"EHLO c.example.org\r\n"):
            stream.sendall(line)
            assert stream.recv(1000)
        until = time.monotonic() + seconds
        while time.monotonic() < until and len(taken) < most:
            began = time.perf_counter()
            stream.sendall(b"NOOP\r\n")
            assert stream.recv(1000).startswith(b"250")
            taken.append(time.perf_counter() - began)
            time.sleep(0.005 if JUDGE else 0)
    return sorted(taken)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("size", CHAINS)
def test_others_are_served(tmp_path: Path, size: str, workers: int) -> None:
    if not JUDGE and (size, workers) != ("31 KB", 2):
        pytest.skip("the whole of it under TRIOSMTP_JUDGE=1")
    credential = hostile_chain(*CHAINS[size])
    ended = threading.Event()
    with serving(tmp_path, workers) as port:
        attacker = threading.Thread(target=attack, args=(port, credential, ended, None if JUDGE else 3))
        attacker.start()
        try:
            taken = round_trips(port, 15, 10**6 if JUDGE else 50)
        finally:
            ended.set()
            attacker.join()
    median, worst = statistics.median(taken), taken[int(len(taken) * 0.99)]
    print(f"{size}, {workers} workers: {len(taken)} NOOPs, median {median * 1e3:.1f} ms, 99 % {worst * 1e3:.1f} ms")
    if JUDGE:
        assert median < 0.1
        assert worst < 0.5
