"""Run as a program: deliver messages into the Maildir argv[1] for ever; tell the number of each that was delivered."""

import os
import sys
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import trio

from triosmtp.delivery import Maildir
from triosmtp.message import Envelope, Message, Recipient
from triosmtp.message.spool import Body
from triosmtp.smtp.mail_address import Address


async def main() -> None:
    maildir = Maildir(Path(sys.argv[1]))
    numbers = count()

    async def deliver() -> None:
        for number in numbers:
            body = Body(b"Subject: %d\r\n\r\n" % number + b"x" * 20_000 + b"\r\nend %d\r\n" % number)
            message = Message(
                id=str(number),
                envelope=Envelope(Address("me", "example.org"), {}, [Recipient(Address("joe", "example.com"), {})]),
                body=body,
                received=datetime.now(UTC),
            )
            await maildir.deliver(message)
            os.write(1, b"%d\n" % number)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(deliver)


trio.run(main)
