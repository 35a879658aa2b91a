"""The mail programs of this world, each as one function: send this letter to that server with this certificate."""

import os
import re
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Literal, TypeAlias

import pytest
from attrs import frozen
from stanza_server import Letter

TIMEOUT = 30.0  # seconds; nobody waits this long unless something is broken

Version: TypeAlias = Literal["TLSv1.2", "TLSv1.3"]


@frozen
class Identity:
    """A client's certificate and key as files."""

    certificate: Path
    key: Path


@frozen
class Outcome:
    """What became of a letter: whether the program was content, and what it said."""

    sent: bool
    output: str


@frozen
class Errand:
    """All that a client needs to know."""

    port: int
    ca: Path
    letter: Letter
    identity: Identity | None
    version: Version
    folder: Path
    """A folder for files of the client."""
    implicit: bool = False
    """TLS from the first byte, instead of STARTTLS."""


Client: TypeAlias = Callable[[Errand], Outcome]


def need(program: str) -> str:
    """Return the program's path; skip the test without it, but fail if CI is set."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        message = f"{program} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def _run(command: list[str], letter: Letter) -> Outcome:
    done = subprocess.run(
        command, check=False, input=letter.text, capture_output=True, text=True, errors="replace", timeout=TIMEOUT
    )
    return Outcome(done.returncode == 0, done.stdout + done.stderr)


# openssl s_client


class Dialogue:
    """A session by hand: one line is said, one reply is read."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.transcript = ""

    def say(self, line: str) -> str:
        """Send a line; return the whole reply, its lines joined.

        :raises EOFError: if the server, or the program, is gone.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        self.transcript += f"> {line}\n"
        return self.read()

    def read(self) -> str:
        """Read one reply."""
        assert self._process.stdout is not None
        reply = ""
        while reply[3:4] != " ":
            reply = self._process.stdout.readline()
            if not reply:
                raise EOFError(self.transcript)
            self.transcript += reply
        return reply.rstrip("\n")

    def quit(self) -> None:
        """Send QUIT, read 221, and wait for the close; the program must accept its form."""
        assert self.say("QUIT").startswith("221 ")
        assert self._process.stdout is not None
        rest = self._process.stdout.read()
        assert (rest, self._process.wait()) == ("", 0), self.transcript


@contextmanager
def s_client(errand: Errand) -> Iterator[Dialogue]:
    """Open a session with `openssl s_client`; it does STARTTLS by itself."""
    # -quiet makes R, Q and k at the beginning of a line plain letters, and stdout the server's alone.
    command = [need("openssl"), "s_client", "-quiet", "-crlf", "-connect", f"127.0.0.1:{errand.port}"]
    command += ["-tls1_2" if errand.version == "TLSv1.2" else "-tls1_3"]
    command += ["-CAfile", str(errand.ca), "-verify_return_error", "-verify_hostname", "localhost"]
    if not errand.implicit:
        command += ["-starttls", "smtp", "-name", "client.example"]
    if errand.identity is not None:
        command += ["-cert", str(errand.identity.certificate), "-key", str(errand.identity.key)]
    log = errand.folder / "s_client.log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        guard = Timer(TIMEOUT, process.kill)
        guard.start()
        try:
            yield Dialogue(process)
        finally:
            guard.cancel()
            process.kill()


def send_by_s_client(errand: Errand) -> Outcome:
    with s_client(errand) as session:
        if errand.implicit:
            assert session.read().startswith("220 ")
        letter = errand.letter
        stuffed = re.sub(r"^\.", "..", letter.text, flags=re.MULTILINE)
        steps = {
            "EHLO client.example": "250 ",
            f"MAIL FROM:<{letter.sender}>": "250 ",
            f"RCPT TO:<{letter.recipient}>": "250 ",
            "DATA": "354 ",
            f"{stuffed}.": "250 ",
        }
        sent = all(session.say(line).startswith(code) for line, code in steps.items())
        session.quit()  # in good order, refused or not
    return Outcome(sent, session.transcript)


# The others


def send_by_swaks(errand: Errand) -> Outcome:
    command = [need("swaks"), "--server", f"127.0.0.1:{errand.port}", "--helo", "client.example"]
    command += ["--data", errand.letter.text.removesuffix("\n")]  # it ends the last line itself
    command += ["--from", errand.letter.sender, "--to", errand.letter.recipient]
    command += ["--tls-on-connect" if errand.implicit else "--tls", "--tls-verify", "--tls-ca-path", str(errand.ca)]
    command += ["--tls-protocol", "tlsv1_2" if errand.version == "TLSv1.2" else "tlsv1_3"]
    if errand.identity is not None:
        command += ["--tls-cert", str(errand.identity.certificate), "--tls-key", str(errand.identity.key)]
    return _run(command, errand.letter)


def send_by_curl(errand: Errand) -> Outcome:
    scheme = "smtps" if errand.implicit else "smtp"
    command = [need("curl"), "-sS", "-v", "--ssl-reqd", "--crlf", "--cacert", str(errand.ca)]
    command += ["--mail-from", errand.letter.sender, "--mail-rcpt", errand.letter.recipient, "--upload-file", "-"]
    command += ["--tlsv1.2", "--tls-max", "1.2"] if errand.version == "TLSv1.2" else ["--tlsv1.3"]
    if errand.identity is not None:
        command += ["--cert", str(errand.identity.certificate), "--key", str(errand.identity.key)]
    return _run([*command, f"{scheme}://localhost:{errand.port}/client.example"], errand.letter)


def send_by_msmtp(errand: Errand) -> Outcome:
    lines = ["account default", "host localhost", f"port {errand.port}", "domain client.example", "tls on"]
    lines += [f"tls_starttls {'off' if errand.implicit else 'on'}", f"tls_trust_file {errand.ca}"]
    lines += [f"tls_priorities NORMAL:-VERS-ALL:+VERS-TLS{errand.version.removeprefix('TLSv')}"]
    if errand.identity is not None:
        lines += [f"tls_cert_file {errand.identity.certificate}", f"tls_key_file {errand.identity.key}"]
    conf = errand.folder / "msmtprc"
    conf.write_text("\n".join([*lines, ""]))
    letter = errand.letter
    return _run([need("msmtp"), "-C", str(conf), "-d", "-f", letter.sender, "--", letter.recipient], letter)


def send_by_smtplib(errand: Errand) -> Outcome:
    context = ssl.create_default_context(cafile=errand.ca)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[errand.version.replace(".", "_")]
    if errand.identity is not None:
        context.load_cert_chain(errand.identity.certificate, errand.identity.key)
    letter = errand.letter
    smtp = smtplib.SMTP_SSL("localhost", errand.port, "client.example", timeout=TIMEOUT, context=context) if (
        errand.implicit
    ) else smtplib.SMTP("localhost", errand.port, "client.example", timeout=TIMEOUT)  # fmt: skip
    with smtp:  # leaving says QUIT
        if not errand.implicit:
            smtp.starttls(context=context)
        try:
            smtp.sendmail(letter.sender, [letter.recipient], letter.text)
        except smtplib.SMTPSenderRefused as refusal:
            return Outcome(sent=False, output=f"{refusal.smtp_code} {bytes(refusal.smtp_error).decode()}")
    return Outcome(sent=True, output="")


CLIENTS: dict[str, Client] = {
    "openssl": send_by_s_client,
    "swaks": send_by_swaks,
    "curl": send_by_curl,
    "msmtp": send_by_msmtp,
    "smtplib": send_by_smtplib,
}
