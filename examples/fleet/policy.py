"""The policy client of the fleet: it decides for all nodes.

python policy.py token ws://127.0.0.1:8025/ ws://127.0.0.1:8026/
python policy.py - unix:/run/triosmtp/policy

A Unix socket needs no token.
"""

import sys
from pathlib import Path

import trio

from triosmtp import Reject
from triosmtp.policy_client import PolicyClient, PolicyRequest


async def mark(request: PolicyRequest) -> None:
    """Add a header field that says which client of HAProxy sent the message."""
    request.add_header("X-Client", request.peer)


async def refuse(request: PolicyRequest) -> None:
    """Refuse one recipient at all nodes."""
    if str(request.arguments["recipient"]).startswith("nobody@"):
        raise Reject(550, "5.1.1", "This is nobody's address")


async def main(token: str | None, urls: list[str]) -> None:
    """Connect to each node; a connection that is lost is made again."""
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as connecting:  # a node that is away keeps no other one waiting
            for url in urls:
                client = PolicyClient(url, token=token, name="fleet", group="fleet", variables=[])
                client.on("mailfrom")(mark)
                client.on("rcptto")(refuse)
                connecting.start_soon(nursery.start, client.run)
        print("ready", flush=True)


if __name__ == "__main__":
    file, *rest = sys.argv[1:]
    trio.run(main, None if file == "-" else Path(file).read_text().strip(), rest)
