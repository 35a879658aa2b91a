"""`python -m bench.consume`: messages per second, and CPU for each, that one `triosmtp consume` delivers of a stream.

The messages are in the stream before it starts.  The rate is that between the first and the last acknowledgement.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import nats
from nats.aio.client import Client

from bench.deliveries import TARGETS
from bench.process import LOAD_CPU, SERVER_CPU, Server, free_port
from bench.stream_server import run_stream_server
from triosmtp.jetstream.message_codec import encode_message
from triosmtp.message import Envelope, Message, Recipient
from triosmtp.message.spool import Body
from triosmtp.smtp import Address

__all__ = ["main"]

_CONFIGURATION = """
Node_Name = "bench"
Delivery "queue" {{ Deliver_To = "{stream}" }}
Consumer "bench" {{
  Read_From = "queue"
  Deliver_To = "{target}"
  Failure_Subject = "mail.failed"
  {options}
}}
"""
_KEEP = {"storage": "file", "discard": "new", "num_replicas": 1}
_STREAMS = (
    {**_KEEP, "name": "FAILED", "subjects": ["mail.failed.>"]},
    {
        **_KEEP, "name": "KV_MAIL-results", "subjects": ["$KV.MAIL-results.>"], "max_msgs_per_subject": 1,
        "allow_rollup_hdrs": True,
    },
)  # fmt: skip
_CONSUMER = {
    "durable_name": "triosmtp", "ack_policy": "explicit", "ack_wait": 30_000_000_000, "max_deliver": -1,
    "deliver_policy": "all", "max_ack_pending": 10_000,
}  # fmt: skip
_SIZE = 2000
_AT_ONCE = 200  # publications without an acknowledgement


async def _ask(client: Client, request: str, body: Any = None) -> dict[str, Any]:
    payload = b"" if body is None else json.dumps(body).encode()
    answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{request}", payload, timeout=10)).data)
    if "error" in answer:
        raise RuntimeError(answer)
    return answer


async def _fill(url: str, messages: int, recipients: int) -> None:
    """Make what a consumer needs, and publish the messages."""
    async with await nats.connect(url) as client:
        for config in _STREAMS:
            await _ask(client, f"STREAM.CREATE.{config['name']}", config)
        await _ask(client, "CONSUMER.DURABLE.CREATE.MAIL.triosmtp", {"stream_name": "MAIL", "config": _CONSUMER})
        for first in range(0, messages, _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, messages))
            await asyncio.gather(*(_publish(client, number, recipients) for number in numbers))


async def _publish(client: Client, number: int, recipients: int) -> None:
    to = [Recipient(Address(f"joe{each}", "example.com"), {}) for each in range(recipients)]
    octets = b"Subject: bench\r\n\r\n" + b"A line of the message.\r\n" * (_SIZE // 24)
    envelope = Envelope(Address("me", "example.org"), {}, to)
    message = Message(id=f"bench-{number}", envelope=envelope, body=Body(octets), received=datetime.now(UTC))
    payload = encode_message(message, "bench", octets)
    await client.request(f"mail.in.bench-{number}", payload, timeout=10)


async def _watch(url: str, server: Server, messages: int) -> tuple[float, float]:
    """Return messages per second, and seconds of CPU, between the first acknowledgement and the last."""
    async with await nats.connect(url) as client:
        began, cpu, first = 0.0, 0.0, 0
        while True:
            info = await _ask(client, "CONSUMER.INFO.MAIL.triosmtp")
            done = messages - info["num_pending"] - info["num_ack_pending"]
            now = time.perf_counter()
            if done and not began:
                began, cpu, first = now, server.cpu_seconds(), done
            if done >= messages:
                return (done - first) / (now - began), (server.cpu_seconds() - cpu) / (done - first)
            await asyncio.sleep(0.01)


@contextmanager
def _delayed(stream: str, milliseconds: float) -> Iterator[str]:
    """Yield an address of the stream whose round trip takes so long."""
    if not milliseconds:
        yield stream
        return
    port, behind = free_port(), int(stream.partition("/MAIL")[0].rpartition(":")[2])
    command = ["taskset", "-c", str(LOAD_CPU), sys.executable, "-m", "bench.delay", str(port), str(behind)]
    with subprocess.Popen([*command, str(milliseconds)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as proxy:
        try:
            assert proxy.stdout is not None
            proxy.stdout.readline()
            yield stream.replace(f":{behind}/", f":{port}/")
        finally:
            proxy.kill()


def _measure(target: str, options: argparse.Namespace) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="triosmtp-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        stream = stack.enter_context(run_stream_server(folder))
        url = stream.partition("/MAIL")[0]
        deliver_to = stack.enter_context(TARGETS[target](folder)) if target in TARGETS else target
        asyncio.run(_fill(url, options.messages, options.recipients))
        stream = stack.enter_context(_delayed(stream, options.delay))
        configuration = folder / "consume.conf"
        configuration.write_text(_CONFIGURATION.format(stream=stream, target=deliver_to, options=options.options))
        command = ["taskset", "-c", str(SERVER_CPU), sys.executable, "-m", "triosmtp", "consume"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*command, "-c", str(configuration)], stderr=log)
            try:
                return asyncio.run(_watch(url, Server(process.pid, 0), options.messages))
            finally:
                process.terminate()
                process.wait()


def main() -> None:
    """Parse arguments, measure, print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.consume", description=__doc__)
    parser.add_argument("--targets", default="maildir,lmtp,smtp,http", help="or an address (default: %(default)s)")
    parser.add_argument("--messages", type=int, default=3000, help="in the stream (default %(default)s)")
    parser.add_argument("--recipients", type=int, default=1, help="of each message (default %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of each target (default %(default)s)")
    parser.add_argument("--delay", type=float, default=0, help="milliseconds of a round trip to NATS (default 0)")
    parser.add_argument("--options", default="", help="for the Consumer, such as 'Concurrency = 20'")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    names = options.targets.split(",")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(options.runs):
        for name in names:  # interleaved: what disturbs the machine disturbs all
            found[name].append(_measure(name, options))
    print(f"{'target':<12}{'messages/s':>12}{'lowest':>10}{'highest':>10}{'CPU ms':>10}")
    for name, samples in found.items():
        rates = [rate for rate, _ in samples]
        cpu = median(each for _, each in samples) * 1000
        print(f"{name:<12}{median(rates):>12.0f}{min(rates):>10.0f}{max(rates):>10.0f}{cpu:>10.2f}")


if __name__ == "__main__":
    main()
