"""A server inside of a Trio program: another task takes the messages, and the program ends the server in good order.

    python examples/inside_trio.py

It sends itself one message, prints it, and leaves.
"""

import smtplib
from functools import partial

import trio

import triosmtp

CONFIGURATION = """
Relay_Domains = ( "example.com" )
ESMTP_Listener { Listen "127.0.0.1:0" { } }
"""


async def main() -> None:
    """Run server, consumer and one client."""
    send, receive = trio.open_memory_channel[str](100)

    async def take(message: triosmtp.Message) -> None:
        # The channel is the queue of this program: what was sent here is taken, so the client may have its 250.
        await send.send(f"<{message.envelope.sender}> says: {message.body.head.decode('utf-8', 'replace')}")

    async with trio.open_nursery() as nursery:
        serving = partial(triosmtp.serve, triosmtp.parse_config(CONFIGURATION), deliver=take)
        server: triosmtp.Server = await nursery.start(serving)
        _, port = server.addresses["127.0.0.1:0"]
        async with trio.open_nursery() as client:
            client.start_soon(trio.to_thread.run_sync, partial(send_one, port))
            print(await receive.receive(), flush=True)
        await server.aclose(grace=5)
        print(f"{server.statistics.messages_accepted} message accepted", flush=True)


def send_one(port: int) -> None:
    """Send a message as any program would."""
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail("me@example.org", ["you@example.com"], "Subject: hello\r\n\r\nHello from inside.\r\n")


if __name__ == "__main__":
    trio.run(main)
