"""Groups of key exchange, and the curves of clients' keys."""

from pathlib import Path

import pytest
from odd_curves import ODD_CURVES, on_curve, write
from OpenSSL import SSL
from tls_peers import VERSIONS, settings
from tls_programs import OPENSSL, context_with, converse, the_failure, the_only

from triosmtp.tls import MaterialError, TLSSettings, build_context, load_material
from triosmtp.tls import key_exchange_groups as groups
from triosmtp.tls.key_exchange_groups import CLIENT_KEY_CURVES

needs_groups = pytest.mark.skipif(not groups.can_set_groups(), reason="cryptography before 47 has no call for groups")


ORDERS = {
    "ours is preferred": (("P-384", "X25519"), "-tls1_2", "X25519:P-384:P-256", "secp384r1"),
    "and again": (("X25519", "P-384"), "-tls1_2", "P-384:X25519:P-256", "x25519"),
    "no other one": (("P-521",), "-tls1_3", "X25519:P-521", "secp521r1"),
}


@needs_groups
@pytest.mark.parametrize("case", ORDERS)
async def test_tls_ec_curve_names(case: str) -> None:
    names, version, offered, expected = ORDERS[case]
    _, learnt = await converse(context_with(groups=names), [*OPENSSL, version, "-groups", offered])
    assert the_only(learnt).group == expected


@needs_groups
async def test_a_client_that_offers_no_group_of_ours() -> None:
    _, learnt = await converse(context_with(groups=("P-521",)), [*OPENSSL, "-groups", "X25519:P-256"])
    assert the_failure(learnt).reason == "no_common_cipher"


@needs_groups
@pytest.mark.parametrize("names", [("X25519", "nonsense"), ("secp112r1",), ("P-256", "p256")])
def test_a_group_that_openssl_does_not_know(names: tuple[str, ...]) -> None:
    good_settings = settings()
    with pytest.raises(MaterialError, match=f'OpenSSL has no group "{names[-1]}"') as failure:
        load_material(TLSSettings(certificates=good_settings.certificates, groups=names))
    assert failure.value.option == "TLS_EC_Curve_Names"


def test_bindings_without_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of cryptography 46: OpenSSL's own groups serve, and the option is an error."""
    monkeypatch.setattr(groups, "_SET", None)
    build_context(load_material(settings()))
    with pytest.raises(MaterialError, match="cryptography, 47 or newer"):
        load_material(TLSSettings(certificates=settings().certificates, groups=("X25519",)))


def test_the_name_in_the_bindings() -> None:
    """If a new version has it no more, the option must be an error, and not be ignored."""
    version = tuple(map(int, __import__("cryptography").__version__.split(".")[:1]))
    assert groups.can_set_groups() is (version >= (47,))
    assert hasattr(SSL.Context(SSL.TLS_SERVER_METHOD), "_context")


def openssl_knows(curve: str) -> bool:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    return groups._SET is not None and groups._set(groups._SET, context, (curve,))


@pytest.mark.parametrize("offers_it", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("curve", ODD_CURVES)
async def test_a_client_whose_key_is_on_an_odd_curve(curve: str, version: str, offers_it: bool, tmp_path: Path) -> None:
    """Under TLS 1.2 it is served if both sides can offer its curve; else its session ends with the reason."""
    client = write(tmp_path, *on_curve(curve), "client")
    flags = ["-cert", str(client.certificate), "-key", str(client.key), f"-{version.lower().replace('v1.', '1_')}"]
    if offers_it:
        flags += ["-groups", f"X25519:P-256:{curve}"]
    _, learnt = await converse(context_with(), [*OPENSSL, *flags])
    served = offers_it and curve in CLIENT_KEY_CURVES and openssl_knows(curve)
    if version == "TLSv1.2" and not served:
        assert the_failure(learnt).reason == "curve_not_offered"
    else:
        info = the_only(learnt)
        assert (info.protocol, info.verified) == (version, False)
        assert info.client_certificate is not None or version == "TLSv1.3"


async def test_who_asks_for_no_certificate_offers_openssl_s_own_groups() -> None:
    flags = ["-tls1_2", "-groups", "brainpoolP256r1"]
    _, learnt = await converse(context_with(request_certificate=False), [*OPENSSL, *flags])
    assert the_failure(learnt).reason == "no_common_cipher"
