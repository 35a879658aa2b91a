"""The variables of a handshake under Postfix's names, and who may write them."""

import ssl

import pytest
from tls_stanza import Material, secured

from triosmtp import DONE, ConfigError, TLSInfo, Variables
from triosmtp.testing import RecordingPolicy, open_memory_server
from triosmtp.variables import POSTFIX_ALIASES, is_reserved


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("certificates"))


def info(**fields: object) -> TLSInfo:
    base: dict[str, object] = {"protocol": "TLSv1.3", "cipher": "TLS_X", "cipher_algbits": 168, "cipher_usebits": 112}
    return TLSInfo(**{**base, **fields})  # type: ignore[arg-type]  # fields by name


def aliases(tls: TLSInfo) -> dict[str, str]:
    return {key: value for key, value in tls.variables().items() if key in POSTFIX_ALIASES}


CERTIFICATE = {
    "client_certificate": b"x", "client_subject_cn": "Example CA+=é", "client_issuer_cn": "Wietse Venema",
    "client_fingerprint_sha256": "0aff" + "00" * 30, "client_spki_sha256": "0bff" + "00" * 30,
}  # fmt: skip
PRINTS = {
    "ccert_fingerprint": "0A:FF" + ":00" * 30,
    "ccert_pubkey_fingerprint": "0B:FF" + ":00" * 30,
}
CONNECTION = {"encryption_protocol": "TLSv1.3", "encryption_cipher": "TLS_X", "encryption_keysize": "112"}


def test_without_a_certificate() -> None:
    assert aliases(info()) == CONNECTION


def test_names_are_there_for_a_verified_certificate_in_xtext() -> None:
    assert aliases(info(verified=True, **CERTIFICATE)) == {
        **CONNECTION,
        **PRINTS,
        "ccert_subject": "Example+20CA+2B+3D+C3+A9",
        "ccert_issuer": "Wietse+20Venema",
    }


def test_of_an_unverified_certificate_there_are_fingerprints_alone() -> None:
    assert aliases(info(**CERTIFICATE)) == {**CONNECTION, **PRINTS}


def test_only_the_engine_writes_them() -> None:
    assert all(map(is_reserved, POSTFIX_ALIASES))
    assert not is_reserved("encryption_policy")
    variables = Variables()
    for key in POSTFIX_ALIASES:
        with pytest.raises(KeyError):
            variables[key] = "x"


@pytest.mark.parametrize("key", ["ccert_fingerprint", "encryption_protocol"])
async def test_context_cannot_claim_one(material: Material, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        async with open_memory_server(material.conf(f"Context = [ {key} = x ]")):
            pass
    assert f"{key} is written by the TLS engine alone" in str(caught.value)
    assert caught.value.problems[0].position is not None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_variables_are_those_of_a_real_handshake(material: Material, version: ssl.TLSVersion) -> None:
    policy = RecordingPolicy({"mailfrom": DONE})
    async with open_memory_server(material.conf(), policy=policy) as server:
        for name in ("good", "foreign", None):
            context = material.client(name)
            context.minimum_version = context.maximum_version = version
            client = await secured(server, context)
            await client.command("EHLO c.example.org")
            await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")
    assert not POSTFIX_ALIASES & policy.calls[0][2].keys()  # at connect
    good, foreign, none = (message.variables for message in server.messages)
    assert (good["ccert_subject"], good["ccert_issuer"]) == ("good.example", "client+20CA")
    for variables in (good, foreign):
        plain = variables["tls_client_cert_fingerprint_sha256"]
        assert variables["ccert_fingerprint"].replace(":", "").lower() == plain
    assert {"ccert_subject", "ccert_issuer"}.isdisjoint(foreign)
    assert none["encryption_protocol"] == none["tls_protocol"] == version.name.replace("_", ".")
    assert none["encryption_cipher"] == none["tls_cipher"]
    assert none["encryption_keysize"] == none["tls_cipher_usebits"]
