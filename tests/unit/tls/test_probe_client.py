"""A client that looks at a server's certificates."""

import ssl
import threading
from typing import Any

import pytest
import trio
import trio.testing
from hostile_chain import hostile_chain
from tls_peers import (
    folder,
)
from trio.testing import memory_stream_pair

from triosmtp.tls.probe_client import ObservingClient, observing_context
from triosmtp.tls.verify_callback import record_verification

LARGE = 150
"""Names in each certificate of a chain of four: 8 KB."""


async def test_who_looks_at_a_server_verifies_its_chain_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the deadline of the one who looks holds."""
    seen: list[int] = []

    def record(*arguments: Any) -> bool:
        seen.append(threading.get_ident())
        return record_verification(*arguments)

    monkeypatch.setattr("triosmtp.tls.probe_client.record_verification", record)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*hostile_chain(4, LARGE).write(folder(), "hostile"))
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.SSLStream(theirs, server, server_side=True).do_handshake)
        with trio.fail_after(20):
            shown = await ObservingClient(ours, observing_context(), "x").observe()
    assert len(shown.chain) == 4
    assert seen
    assert threading.get_ident() not in seen
