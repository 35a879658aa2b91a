"""SIGKILL at random moments during deliveries: each message with a 250 is stored, and each stored message is complete.

A killed process proves the order of the steps before the 250.  The tests of the delivery check that each step reaches
the disk, because the kernel keeps the data that a killed process had written.
"""

import os
import re
import smtplib
import ssl
import threading
from itertools import count
from pathlib import Path
from random import Random

import pytest
from mail_server import MailServer, serving

FULL, SMALL = 1000, 100
WANTED = FULL if os.environ.get("TRIOSMTP_JUDGE") else SMALL
CLIENTS = 6
LARGE = 1_500_000  # leaves memory for the spool's file
REFUSED_OR_GONE = (OSError, smtplib.SMTPException, EOFError)


def make_text(identity: str) -> bytes:
    """Return the one message of that identity: what is made twice is alike."""
    random = Random(identity)
    size = LARGE if random.random() < 0.05 else random.randrange(20_000)
    lines = [b"Subject: %s" % identity.encode(), b"", b".", b"..two", random.randbytes(40).hex().encode()]
    lines += [b"." * random.randrange(4) + b"x" * random.randrange(78) for _ in range(size // 40)]
    return b"\r\n".join([*lines, b"end of %s" % identity.encode(), b""])


class Load:
    """Clients in threads, which deliver until they are stopped, also while the server is down."""

    def __init__(self, server: MailServer, seed: int) -> None:
        self.server = server
        self.acknowledged: set[str] = set()
        self.failures = 0
        self._news = threading.Condition()
        self._up = threading.Event()
        self._done = False
        self._seed = seed
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._done = True
        self._up.set()
        for thread in self._threads:
            thread.join()

    def server_is(self, *, up: bool) -> None:
        if up:
            self._up.set()
        else:
            self._up.clear()

    def wait_for(self, acknowledged: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.acknowledged) >= acknowledged, 120), self.server.log[-2000:]

    def _run(self, number: int) -> None:
        numbers = count()
        random = Random(f"{self._seed} {number}")
        context = ssl.create_default_context(cadata=self.server.ca) if number % 2 else None
        while not self._done:
            self._up.wait()
            try:
                self._converse(
                    context, [f"{self._seed}-{number}-{next(numbers)}" for _ in range(random.randrange(1, 8))]
                )
            except REFUSED_OR_GONE:
                self.failures += 1

    def _converse(self, context: ssl.SSLContext | None, identities: list[str]) -> None:
        with smtplib.SMTP("127.0.0.1", self.server.port, "client.example.org", 60) as client:
            client._host = "localhost"  # type: ignore[attr-defined]  # the name in the certificate
            if context is not None:
                client.starttls(context=context)
            for identity in identities:
                if self._done:
                    return
                client.sendmail("me@example.org", ["you@example.com"], make_text(identity))
                with self._news:
                    self.acknowledged.add(identity)
                    self._news.notify_all()


def stored(server: MailServer) -> set[str]:
    """Return the identities of what is in new/, each of which must be whole, and there once."""
    identities = []
    for path in server.files("new"):
        data = path.read_bytes()
        match = re.search(rb"^Subject: (\S+)\n", data, re.MULTILINE)
        assert match, f"{path} has no subject: {data[:200]!r}"
        identity = match[1].decode()
        headers = data[: match.start()]
        assert headers.startswith(b"Return-Path: <me@example.org>\nDelivered-To: you@example.com\nReceived: from ")
        assert data[match.start() :] == make_text(identity).replace(b"\r\n", b"\n"), f"{path} is not whole"
        assert path.name.endswith(f",S={len(data)}")
        identities.append(identity)
    assert len(set(identities)) == len(identities)
    return set(identities)


@pytest.mark.parametrize("seed", [int(os.environ.get("TRIOSMTP_SEED", "20260203"))])
def test_sigkill_at_random_moments_loses_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    print(f"{WANTED} of {FULL} deliveries, seed {seed} (TRIOSMTP_SEED)")
    random = Random(seed)
    kills = 0
    pause = threading.Event()
    with serving(tmp_path) as server:
        load = Load(server, seed)
        load.start()
        try:
            while len(load.acknowledged) < WANTED:
                load.server_is(up=True)
                load.wait_for(min(WANTED, len(load.acknowledged) + random.randrange(1, 12)))
                pause.wait(random.random() * 0.03)  # not to wait for something: to be in the middle of anything
                load.server_is(up=False)
                server.kill()
                kills += 1
                assert load.acknowledged <= stored(server)
                server.start()
        finally:
            load.stop()
        found = stored(server)
    print(
        f"{kills} kills, {len(load.acknowledged)} acknowledged, {len(found)} stored, {load.failures} attempts cut off"
    )
    assert load.acknowledged <= found
    assert kills >= WANTED // 30
    assert load.failures > 0, "no kill was in the middle of a delivery"
    # It is there once a body was too large for memory; what was in it went with the process.
    assert not server.spool.exists() or list(server.spool.iterdir()) == []
