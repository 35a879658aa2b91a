"""Refuse programs as attachments: a decider that asks for the message itself, with triosmtp's own client library.

python attachments_trio.py unix:/run/triosmtp/policy

The server shows a message by Unix socket or TLS alone.
"""

import email
import email.policy
import sys
from pathlib import PurePath

import trio

from triosmtp import Reject
from triosmtp.policy_client import PolicyClient, PolicyRequest

PROGRAMS = {".bat", ".cmd", ".com", ".exe", ".js", ".lnk", ".scr", ".vbs"}

client = PolicyClient(sys.argv[1], name="attachments", group="partners", variables=["tls*"], message_variables=[])


def programs(message: bytes) -> list[str]:
    parsed = email.message_from_bytes(message, policy=email.policy.default)
    names = [part.get_filename("") for part in parsed.walk()]
    return [name for name in names if PurePath(name).suffix.lower() in PROGRAMS]


@client.on("data_spool")
async def check(request: PolicyRequest) -> None:
    body = await request.read_body()
    # Body_Limit may have cut it: what stands behind is not seen, so such a message passes with a mark.
    if body.truncated:
        request.add_header("X-Attachments", f"only {len(body.data)} of {body.size} octets were looked at")
    if await trio.to_thread.run_sync(programs, body.data):  # a thread: parsing a large message takes its time
        raise Reject(550, "5.7.1", "Programs are not accepted as attachments")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        print("ready", flush=True)


trio.run(main)
