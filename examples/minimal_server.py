"""The smallest server: it listens on a free port of loopback, takes mail for example.com, and prints it.

    python examples/minimal_server.py

Stop it with Ctrl-C.
"""

from functools import partial

import trio

import triosmtp

CONFIGURATION = """
Relay_Domains = ( "example.com" )
ESMTP_Listener { Listen "127.0.0.1:0" { } }
"""


async def take(message: triosmtp.Message) -> None:
    """Take a message: when this returns, the client gets its 250."""
    recipients = ", ".join(str(recipient) for recipient in message.envelope.recipients)
    print(f"{message.size} bytes from <{message.envelope.sender}> to {recipients}", flush=True)


async def main() -> None:
    """Serve until interrupted."""
    config = triosmtp.parse_config(CONFIGURATION)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, config, deliver=take))
        host, port = server.addresses["127.0.0.1:0"]
        print(f"listening on {host} port {port}", flush=True)


if __name__ == "__main__":
    trio.run(main)
