"""The facts of a connection after its handshake."""

import pytest
from tls_peers import (
    VERSIONS,
    client_context,
    meet,
    plain_client,
    server_context,
    shake,
)

from triosmtp.tls.engine import Engine
from triosmtp.tls.tls_info import tls_info


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "seen"),
    [
        (None, None),
        (b"mx.example.org", "mx.example.org"),
        (b"evil\r\nX-Header: 1", "evil\\0D\\0AX-Header: 1"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"a" * 300, None),
    ],
)
async def test_sni_is_the_client_s_own_words(version: str, name: bytes | None, seen: str | None) -> None:
    engine, client = Engine(server_context().context), plain_client(version)
    if name is not None:
        client.set_tlsext_host_name(name)
    shake(engine, client)
    assert tls_info(engine, certificate_requested=True).sni == seen


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"])
async def test_cipher_and_group(suite: str) -> None:
    info, _ = await meet(server_context(), client_context("TLSv1.2", ciphers=suite))
    assert info.cipher == suite
    assert (info.cipher_algbits, info.cipher_usebits) == ((128, 128) if "AES128" in suite else (256, 256))
    assert info.group is not None


async def test_two_ends_of_this_openssl_agree_on_a_post_quantum_group() -> None:
    engine = Engine(server_context().context)
    shake(engine, plain_client())
    assert tls_info(engine, certificate_requested=True).group == "X25519MLKEM768"
