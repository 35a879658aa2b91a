"""A mail sink for development: takes mail for everybody, over STARTTLS if asked, and shows each message; nothing leaves.

    python examples/mail_sink.py [PORT]
"""

import sys
from functools import partial

import trio

import triosmtp

CONFIGURATION = """
Open_Relay = true
Max_Message_Size = 26214400
RFC2822_Lone_LF_In_Headers = fix
RFC2822_Lone_LF_In_Body = fix
ESMTP_Listener {{ Listen "127.0.0.1:{port}" {{ }} }}
"""


async def show(message: triosmtp.Message) -> None:
    """Print envelope and message."""
    print(f"-- {message.id} from <{message.envelope.sender}>")
    for recipient in message.envelope.recipients:
        print(f"-- to <{recipient}>")
    async for chunk in message.body.chunks():
        sys.stdout.write(chunk.decode("utf-8", "replace").replace("\r\n", "\n"))
    print("-- end", flush=True)


async def main(port: int) -> None:
    """Serve until interrupted."""
    config = triosmtp.parse_config(CONFIGURATION.format(port=port))
    async with trio.open_nursery() as nursery:
        server: triosmtp.Server = await nursery.start(partial(triosmtp.serve, config, deliver=show))
        print(f"mail sink on 127.0.0.1 port {server.addresses[f'127.0.0.1:{port}'][1]}", flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 1025)
