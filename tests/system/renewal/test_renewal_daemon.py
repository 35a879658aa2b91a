"""`triosmtp serve` renews its certificate, logs it, and ends at once on SIGTERM."""

import os
import re
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import trio
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import load_der_x509_certificate
from layouts import Certbot
from renewal_server import CONFIGURATION, LISTEN, fingerprint, issue

from triosmtp.testing import Authority, ScriptedClient


class Output:
    """The output of a process, line by line."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._received = b""

    async def find(self, pattern: str) -> re.Match[str]:
        """Read until a line fits."""
        seen: list[str] = []
        with trio.fail_after(30):
            while True:
                while b"\n" not in self._received:
                    chunk = await self._stream.receive_some()
                    assert chunk, f"no {pattern} in {seen}"
                    self._received += bytes(chunk)
                line, _, self._received = self._received.partition(b"\n")
                seen.append(line.decode())
                match = re.search(pattern, seen[-1])
                if match:
                    return match


async def shown(port: int, authority: Authority) -> str:
    client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", port))
    assert (await client.read()).code == 220
    await client.command("EHLO client.example.org")
    await client.starttls(ssl.create_default_context(cadata=authority.certificate_pem.decode()))
    assert isinstance(client.stream, trio.SSLStream)
    der = client.stream.getpeercert(binary_form=True)
    await client.command("QUIT")
    await client.aclose()
    return load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex()


async def test_a_daemon_renews_its_certificate_and_ends_at_once(tmp_path: Path) -> None:
    layout, authority = Certbot(tmp_path / "tls"), Authority.create()
    first, second = issue(authority), issue(authority)
    await layout.put(first.certificate_pem, first.key_pem)
    listens = LISTEN.format(name="127.0.0.1:0", certificate=layout.certificate, key=layout.key, options="")
    path = tmp_path / "triosmtp.conf"
    path.write_text(CONFIGURATION.format(folder=tmp_path, listens=listens))
    command = [sys.executable, "-m", "triosmtp", "serve", "-c", str(path)]
    process = await trio.lowlevel.open_process(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with process.stdout, process.stderr:
        try:
            port = int((await Output(process.stdout).find(r'Listen "127\.0\.0\.1:0": .* port (\d+)$'))[1])
            log = Output(process.stderr)
            assert await shown(port, authority) == fingerprint(first)
            await layout.put(first.certificate_pem, second.key_pem)
            await log.find("ERROR certificate-reload-failed .*does not match")
            await layout.put(second.certificate_pem, second.key_pem)
            match = await log.find("INFO certificates-reloaded (.*)")
            assert fingerprint(second) in match[1]
            assert await shown(port, authority) == fingerprint(second)
            began = trio.current_time()
            process.send_signal(signal.SIGTERM)
            with trio.fail_after(30):
                assert await process.wait() == 0
            print(f"from SIGTERM to the end of the process: {(trio.current_time() - began) * 1000:.0f} ms")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
