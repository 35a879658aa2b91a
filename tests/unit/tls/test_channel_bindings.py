"""The data of channel bindings: both sides have the same, and other connections have others."""

import hashlib

import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding
from tls_peers import VERSIONS, plain_client, server_context, server_credential, shake
from trio.testing import memory_stream_pair

from triosmtp.tls import TLSStream, channel_binding
from triosmtp.tls.engine import Engine


def connected(version: str) -> tuple[TLSStream[trio.abc.Stream], bytes, bytes | None]:
    """Return a server's stream, and the client's exporter and first Finished."""
    engine, client = Engine(server_context().context), plain_client(version)
    shake(engine, client)
    return (
        TLSStream(memory_stream_pair()[0], engine),
        client.export_keying_material(b"EXPORTER-Channel-Binding", 32, b""),
        client.get_finished(),
    )


def test_tls_exporter() -> None:
    stream, exported, _ = connected("TLSv1.3")
    assert channel_binding(stream, "tls-exporter") == exported
    assert channel_binding(connected("TLSv1.3")[0], "tls-exporter") != exported
    assert channel_binding(stream, "tls-unique") is None


def test_tls_unique() -> None:
    stream, _, finished = connected("TLSv1.2")
    assert finished
    assert channel_binding(stream, "tls-unique") == finished
    assert channel_binding(stream, "tls-exporter") is None


@pytest.mark.parametrize("version", VERSIONS)
def test_tls_server_end_point(version: str) -> None:
    stream, _, _ = connected(version)
    certificate = server_credential().certificate
    assert certificate.signature_hash_algorithm is not None
    assert certificate.signature_hash_algorithm.name == "sha256"
    expected = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    assert channel_binding(stream, "tls-server-end-point") == expected


def test_a_type_that_is_not_known() -> None:
    assert channel_binding(connected("TLSv1.3")[0], "tls-other") is None
