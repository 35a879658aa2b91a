"""The programs that look at a server's TLS from outside: sslscan, testssl.sh, OpenSSL's s_client, gnutls-cli."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from attrs import frozen
from scanned_server import Port

# "batch" continues instead of asking; nothing is looked up in DNS.
TESTSSL = ("--quiet", "--color=0", "--warnings=batch", "--nodns=none", "--connect-timeout=10", "--openssl-timeout=10")


def program(*names: str) -> str:
    """Return the first of these programs that is installed.  Without one, skip the test, but fail if CI is set."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    if os.environ.get("CI"):
        pytest.fail(f"{names[0]} is not installed")
    pytest.skip(f"{names[0]} is not installed")


def run(command: Iterable[str], *, said: str = "", seconds: float = 60) -> str:
    """Return all that a program prints; it must end in time."""
    done = subprocess.run(
        [*command], input=said, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        timeout=seconds, check=False,
    )  # fmt: skip
    return done.stdout


@frozen
class Cipher:
    """A suite that the server accepted."""

    protocol: str
    name: str
    bits: int
    strength: str
    """sslscan's own word: strong, acceptable, medium, weak, null, anonymous."""
    dh_bits: int | None

    @property
    def kind(self) -> str:
        """The key exchange: of TLS 1.2 with the kind of the certificate; plain RSA has no forward secrecy."""
        if self.protocol == "TLSv1.3":
            return "TLSv1.3"
        match = re.match("(ECDHE|DHE)-(RSA|ECDSA)", self.name)
        return match[0] if match else "RSA"


@frozen
class Scan:
    """The findings of sslscan."""

    protocols: frozenset[str]
    ciphers: tuple[Cipher, ...]
    groups: frozenset[str]
    compression: bool
    vulnerable: frozenset[str]
    """The versions with Heartbleed."""
    subject: str
    key: str
    """Kind of the key, and sslscan's words for what is wrong with it: `RSA`, or `RSA (error)`."""
    expired: bool

    @property
    def names(self) -> set[str]:
        return {cipher.name for cipher in self.ciphers}

    def listen_names(self, protocol: str) -> set[str]:
        return {cipher.name for cipher in self.ciphers if cipher.protocol == protocol}


def sslscan(port: Port, *arguments: str) -> Scan:
    starttls = ["--starttls-smtp"] if port.starttls else []
    printed = run([program("sslscan"), "--xml=-", *starttls, *arguments, str(port)])
    test = ET.fromstring(printed).find("ssltest")
    assert test is not None, printed
    key, compression = test.find(".//pk"), test.find("compression")
    assert key is not None, printed
    return Scan(
        protocols=frozenset(
            f"{each.get('type', '').upper()}v{each.get('version')}"
            for each in test.findall("protocol")
            if each.get("enabled") == "1"
        ),
        ciphers=tuple(map(_cipher, test.findall("cipher"))),
        groups=frozenset(f"{each.get('sslversion')} {each.get('name')}" for each in test.findall("group")),
        compression=compression is not None and compression.get("supported") == "1",
        vulnerable=frozenset(
            each.get("sslversion", "") for each in test.findall("heartbleed") if each.get("vulnerable") != "0"
        ),
        subject=test.findtext(".//subject", ""),
        key=key.get("type", "") + (" (error)" if key.get("error") != "false" else ""),
        expired=test.findtext(".//expired") != "false",
    )


def _cipher(element: ET.Element) -> Cipher:
    bits = element.get("dhebits")
    return Cipher(
        element.get("sslversion", ""), element.get("cipher", ""), int(element.get("bits", "0")),
        element.get("strength", ""), int(bits) if bits else None,
    )  # fmt: skip


@frozen
class Finding:
    """One finding of testssl.sh."""

    id: str
    severity: str
    text: str


def start_testssl(port: Port, folder: Path, sections: Iterable[str]) -> "subprocess.Popen[bytes]":
    """Begin to scan a port, into `folder`; scans of several ports may run side by side."""
    openssl = folder / "openssl"
    # To see which curves s_client knows, it lets it connect to "invalid.": a DNS look-up, except for an address.
    openssl.write_text(f'#!/bin/bash\nexec {program("openssl")} "${{@/#invalid./127.0.0.1:9}}"\n')
    openssl.chmod(0o755)
    starttls = ["--starttls=smtp"] if port.starttls else []
    command = [
        program("testssl.sh", "testssl"), *TESTSSL, f"--openssl={openssl}", f"--add-ca={folder / 'ca.pem'}",
        f"--jsonfile={_results(port, folder)}", *starttls, *sections, f"--ip={port.host}", f"localhost:{port.number}",
    ]  # fmt: skip
    with _results(port, folder).with_suffix(".out").open("wb") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder)


def findings_of(process: "subprocess.Popen[bytes]", port: Port, folder: Path, *, seconds: float) -> list[Finding]:
    """Wait for a scan, and read what it found."""
    try:
        process.wait(seconds)
    finally:
        process.kill()
        process.wait()
    path = _results(port, folder)
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        pytest.fail(f"testssl.sh: {error}; {path.with_suffix('.out').read_text()}")
    return [Finding(each["id"], each["severity"], each["finding"]) for each in found]


def _results(port: Port, folder: Path) -> Path:
    return folder / f"{port.number}.json"


def s_client(port: Port, *arguments: str) -> str:
    """Return what `openssl s_client` prints: it says EHLO once it is connected, then QUIT."""
    return run(_s_client(port, "-ign_eof", *arguments), said="EHLO client.example.org\nQUIT\n")


def renegotiate(port: Port) -> str:
    """Return the output of s_client that renegotiates and then sends NOOP."""
    return dialogue(_s_client(port, "-tls1_2"), ("---\n2", "R"), ("RENEGOTIATING", "NOOP"), ("250 2.0.0 ", "Q"))


def _s_client(port: Port, *arguments: str) -> list[str]:
    starttls = ["-starttls", "smtp"] if port.starttls else []
    return [program("openssl"), "s_client", "-connect", str(port), *starttls, "-crlf", *arguments]


def gnutls_cli(port: Port, *arguments: str) -> str:
    """Return what gnutls-cli prints: it says EHLO once it is connected, then QUIT."""
    starttls = ["--starttls-proto=smtp"] if port.starttls else []
    command = [program("gnutls-cli"), "--insecure", "--crlf", *starttls, "-p", str(port.number), *arguments, port.host]
    return dialogue(command, ("- Simple Client Mode", "EHLO client.example.org"), ("250 ENHANCED", "QUIT"))


def dialogue(command: list[str], *said: tuple[str, str], seconds: float = 60) -> str:
    """Return all that a program prints; after it printed the first of a pair, send the second.  It must end in time."""
    left, printed = [*said], ""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdin is not None
    assert process.stdout is not None
    watchdog = threading.Timer(seconds, process.kill)
    watchdog.start()
    with process, process.stdout:
        while piece := os.read(process.stdout.fileno(), 65536):
            printed += piece.decode("utf-8", "replace")
            while left and left[0][0] in printed:
                process.stdin.write(left.pop(0)[1].encode() + b"\n")
                process.stdin.flush()
    watchdog.cancel()
    assert process.returncode != -signal.SIGKILL, f"{command} did not end: {printed}"
    return printed
