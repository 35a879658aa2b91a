"""Refuse mail from clients without a valid certificate: a decider with triosmtp's own client library.

python partners_trio.py ws://127.0.0.1:8025/ token [shadow]
"""

import sys
from pathlib import Path

import trio

from triosmtp import Reject
from triosmtp.policy_client import Notification, PolicyClient, PolicyRequest

url, token_file, *rest = sys.argv[1:]
client = PolicyClient(
    url,
    token=Path(token_file).read_text().strip(),
    name="partners-python",
    group="partners",
    mode="shadow" if rest == ["shadow"] else "enforce",
    variables=["tls*", "ehlo_domain"],
)


@client.on("mailfrom")
async def require_certificate(request: PolicyRequest) -> None:
    if not request.tls.on:
        raise Reject(530, "5.7.0", "Must issue a STARTTLS command first")
    if not request.tls.verified:
        raise Reject(550, "5.7.1", f"A valid client certificate is required: {request.tls.verify_error}")
    request.add_header("X-Partner", request.tls.subject or "")


@client.notification("session.tls")
async def show(note: Notification) -> None:
    print(note.session, note.tls.protocol, "verified" if note.tls.verified else note.tls.verify_error, flush=True)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        print("ready", flush=True)


trio.run(main)
