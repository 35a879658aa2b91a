"""The rival: aiosmtpd on uvloop, everything accepted and dropped.

Run as `python -m bench.rival_aiosmtpd PORT [CERTIFICATE KEY [CLIENT_CA]]`; with CLIENT_CA a client
certificate is demanded.
"""

import asyncio
import ssl
import sys

import uvloop
from aiosmtpd.smtp import SMTP, Envelope, Session

__all__ = ["main"]

_MESSAGE_LIMIT = 64 * 1024 * 1024


class Accept:
    """A handler that takes every message and keeps none."""

    async def handle_DATA(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        return "250 OK"


def _context(files: list[str]) -> ssl.SSLContext | None:
    if not files:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files[:2])
    if files[2:]:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files[2])
    return context


async def _serve(port: int, context: ssl.SSLContext | None) -> None:
    handler = Accept()

    def protocol() -> SMTP:
        # With a name of its own it need not ask the resolver for one at every connection.
        return SMTP(handler, hostname="localhost", data_size_limit=_MESSAGE_LIMIT, tls_context=context)

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    port, *files = sys.argv[1:]
    uvloop.run(_serve(int(port), _context(files)))


if __name__ == "__main__":
    main()
