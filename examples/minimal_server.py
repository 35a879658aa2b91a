r"""The smallest server: it listens on a free port of loopback, and prints a line for each message.

    python examples/minimal_server.py

It names its port.  Send it a message from another terminal, and stop it with Ctrl-C:

    printf 'Subject: hello\r\n\r\nHello.\r\n' | curl -sS --mail-from me@example.org --mail-rcpt you@example.com -T - \
        smtp://127.0.0.1:PORT
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
        server: triosmtp.Server = await nursery.start(partial(triosmtp.serve, config, deliver=take))
        port = server.addresses["127.0.0.1:0"][1]
        print(f"listening on 127.0.0.1 port {port}", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main)
    except* KeyboardInterrupt:
        print("stopped")
