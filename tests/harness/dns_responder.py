"""A DNS server on the loopback interface, with the records of a test."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import trio
from attrs import Factory, define

Records = Mapping[tuple[str, str], Sequence[str]]
"""By name (without the last dot) and type: texts as in a zone file."""


@define(slots=True)
class DNSResponder:
    """A running server."""

    server: str
    """``127.0.0.1:PORT``."""
    asked: list[tuple[str, str]] = Factory(list)
    """The questions, in their order."""


def _response(request: dns.message.Message, records: Records, asked: list[tuple[str, str]]) -> dns.message.Message:
    question = request.question[0]
    name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
    asked.append((name, kind))
    response = dns.message.make_response(request)
    response.flags |= dns.flags.RA
    if (name, kind) in records:
        response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *records[name, kind]))
    elif name.startswith("fails."):
        response.set_rcode(dns.rcode.SERVFAIL)
    elif not any(each == name for each, _ in records):
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response


@asynccontextmanager
async def dns_responder(records: Records) -> AsyncIterator[DNSResponder]:
    """Answer until the block ends: NXDOMAIN for a name that is not in ``records``, SERVFAIL for ``fails.…``."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))
        responder = DNSResponder(f"127.0.0.1:{socket.getsockname()[1]}")

        async def answer() -> None:
            while True:
                data, peer = await socket.recvfrom(4096)
                request = dns.message.from_wire(data)
                await socket.sendto(_response(request, records, responder.asked).to_wire(), peer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            yield responder
            nursery.cancel_scope.cancel()
