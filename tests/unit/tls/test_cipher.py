"""Cipher suites: the list that clients are offered."""

import pytest
from OpenSSL import SSL
from tls_peers import (
    server_context,
    shake,
)
from tls_programs import OPENSSL, context_with, converse, identity, the_failure, the_only

from triosmtp.tls import (
    ServerContext,
)
from triosmtp.tls.cipher import VERSIONS
from triosmtp.tls.engine import Engine

ALL_VERSIONS = ("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize(
    ("ciphers", "flags", "cipher"),
    [
        ("DEFAULT", ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", ["-tls1_2"], "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", ["-tls1_2", "-cipher", "AESGCM"], None),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", ["-tls1_3"], "TLS_AES_256_GCM_SHA384"),
        ("TLS_AES_128_GCM_SHA256", ["-tls1_3"], "TLS_AES_128_GCM_SHA256"),
        ("TLS_AES_128_GCM_SHA256", ["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"], None),
        ("TLS_AES_128_GCM_SHA256", ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA"], "ECDHE-ECDSA-AES256-SHA"),
        ("DEFAULT:!SHA1", ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA"], None),
    ],
)
async def test_tls_ciphers(ciphers: str, flags: list[str], cipher: str | None) -> None:
    _, learnt = await converse(context_with(ciphers=ciphers), [*OPENSSL, *flags])
    if cipher is None:
        assert the_failure(learnt).reason == "no_common_cipher"
    else:
        assert the_only(learnt).cipher == cipher


def every_suite() -> list[str]:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(b"ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return SSL.Connection(context).get_cipher_list()


def accepted_suites(context: ServerContext, protocol: str) -> set[str]:
    """Try every suite that OpenSSL has, one by one."""
    number = VERSIONS[protocol]
    accepted = set()
    for name in every_suite():
        client = SSL.Context(SSL.TLS_CLIENT_METHOD)
        client.set_min_proto_version(number)
        client.set_max_proto_version(number)
        try:
            if name.startswith("TLS_"):
                client.set_tls13_ciphersuites(name.encode())
            else:
                client.set_cipher_list(f"{name}:@SECLEVEL=0".encode())
            connection = SSL.Connection(client)
            connection.set_connect_state()
            shake(Engine(context.context), connection)
        except SSL.Error:
            continue
        accepted.add(str(connection.get_cipher_name()))
    return accepted


@pytest.mark.parametrize("kinds", [("ecdsa",), ("rsa",), ("ecdsa", "rsa")], ids="+".join)
@pytest.mark.parametrize("ciphers", ["DEFAULT", "ALL:@SECLEVEL=0", "TLS_CHACHA20_POLY1305_SHA256:HIGH:!SHA1"])
@pytest.mark.parametrize("dhe", [True, False])
def test_the_effective_list_is_what_clients_get(kinds: tuple[str, ...], ciphers: str, dhe: bool) -> None:
    context = context_with(certificates=tuple(map(identity, kinds)), ciphers=ciphers, enable_dhe=dhe)
    shown = context.ciphers()
    assert list(shown) == ["TLSv1.2", "TLSv1.3"]
    for protocol, names in shown.items():
        assert set(names) == accepted_suites(context, protocol)


def test_the_effective_list_of_an_old_version() -> None:
    context = context_with(protocols=ALL_VERSIONS)
    shown = context.ciphers()
    assert set(shown["TLSv1.0"]) == accepted_suites(context, "TLSv1.0")
    assert set(shown["TLSv1.0"]) < set(shown["TLSv1.2"])
    assert shown["TLSv1.0"] == shown["TLSv1.1"]


def test_the_server_s_preference_decides() -> None:
    ours = server_context(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256")
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    client = SSL.Connection(context)
    client.set_connect_state()
    shake(Engine(ours.context), client)
    assert client.get_cipher_name() == "ECDHE-ECDSA-AES256-GCM-SHA384"


@pytest.mark.parametrize(
    ("ciphers", "suites_1_2", "suites_1_3"),
    [
        ("DEFAULT", True, True),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", ["ECDHE-ECDSA-AES128-GCM-SHA256"], True),
        ("TLS_AES_128_GCM_SHA256", True, ["TLS_AES_128_GCM_SHA256"]),
        (
            "ECDHE-ECDSA-AES128-GCM-SHA256:TLS_CHACHA20_POLY1305_SHA256",
            ["ECDHE-ECDSA-AES128-GCM-SHA256"],
            ["TLS_CHACHA20_POLY1305_SHA256"],
        ),
    ],
)
def test_cipher_list(ciphers: str, suites_1_2: object, suites_1_3: object) -> None:
    effective = server_context(ciphers=ciphers).ciphers()
    assert list(effective) == ["TLSv1.2", "TLSv1.3"]
    modern, older = list(effective["TLSv1.3"]), list(effective["TLSv1.2"])
    assert modern == suites_1_3 if isinstance(suites_1_3, list) else len(modern) == 3
    assert older == suites_1_2 if isinstance(suites_1_2, list) else len(older) > 5
