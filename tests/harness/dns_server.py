"""A DNS server of a test on loopback: it answers from a table, over UDP."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio

Records = Mapping[tuple[str, str], Sequence[str]]
"""Records by name (without the final dot) and type; a name that is not among them does not exist."""


class DNSServer:
    """Answers questions about ``records``.  ``asked`` counts them; those about names in ``silent`` have no answer."""

    def __init__(self, records: Records, *, ttl: int = 300) -> None:
        self.records = dict(records)
        self.asked: Counter[tuple[str, str]] = Counter()
        self.silent: set[str] = set()
        self.failing: set[str] = set()
        self.port = 0
        self._ttl = ttl

    @property
    def address(self) -> tuple[str, int]:
        """The server, as DNS_Servers has it."""
        return "127.0.0.1", self.port

    @property
    def text(self) -> str:
        """The server, as scripts name it."""
        return f"127.0.0.1:{self.port}"

    def _answer(self, data: bytes) -> bytes | None:
        request = dns.message.from_wire(data)
        question = request.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked[name, kind] += 1
        if name in self.silent:
            return None
        answer = dns.message.make_response(request)
        answer.flags |= dns.flags.RA
        if name in self.failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif found := self.records.get((name, kind)):
            answer.answer.append(dns.rrset.from_text_list(question.name, self._ttl, "IN", kind, list(found)))
        elif not any(each == name for each, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer.to_wire()

    async def _serve(self, socket: trio.socket.SocketType) -> None:
        while True:
            data, peer = await socket.recvfrom(4096)
            answer = self._answer(data)
            if answer is not None:
                await socket.sendto(answer, peer)


@asynccontextmanager
async def dns_server(records: Records, *, ttl: int = 300) -> AsyncIterator[DNSServer]:
    """Run a DNS server until the block is left."""
    server = DNSServer(records, ttl=ttl)
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))
        server.port = socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server._serve, socket)
            yield server
            nursery.cancel_scope.cancel()
