"""A mail sink for development: takes mail for everybody and shows each message; nothing leaves this machine.

    python examples/mail_sink.py [PORT]

PORT is 1025 unless given; 0 picks a free one.  Line ends that are a bare LF, as careless programs write them, are
mended here; a server on the internet refuses them.  Stop it with Ctrl-C.
"""

import sys
from functools import partial

import trio

import triosmtp

CONFIGURATION = """
Open_Relay = true
RFC2822_Lone_LF_In_Headers = fix
RFC2822_Lone_LF_In_Body = fix
ESMTP_Listener {{ Listen "127.0.0.1:{port}" {{ }} }}
"""


async def show(message: triosmtp.Message) -> None:
    """Print envelope and message."""
    recipients = ", ".join(f"<{recipient}>" for recipient in message.envelope.recipients)
    content = b"".join([chunk async for chunk in message.body.chunks()])
    print(f"-- from <{message.envelope.sender}> to {recipients}")
    print(content.decode("utf-8", "replace").replace("\r\n", "\n"), end="")
    print("-- end", flush=True)


async def main(port: int) -> None:
    """Serve until interrupted."""
    config = triosmtp.parse_config(CONFIGURATION.format(port=port))
    async with trio.open_nursery() as nursery:
        server: triosmtp.Server = await nursery.start(partial(triosmtp.serve, config, deliver=show))
        bound = server.addresses[f"127.0.0.1:{port}"][1]
        print(f"mail sink on 127.0.0.1 port {bound}", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 1025)
    except* KeyboardInterrupt:
        print("stopped")
