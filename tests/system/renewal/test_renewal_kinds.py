"""Every kind of certificate is renewed by every tool's steps; one that no client can use is never put in force."""

import hashlib
import ssl
import subprocess
from pathlib import Path
from typing import Final

import pytest
import trio
from layouts import LAYOUTS, Layout
from renewal_server import open_house

from triosmtp.event import CertificatesReloaded
from triosmtp.testing import Authority
from triosmtp.x509.authority import Credential

KINDS: Final = {
    "RSA": ("RSA", "rsa_keygen_bits:2048"),
    "RSA-PSS": ("RSA-PSS", "rsa_keygen_bits:2048"),
    "P-521": ("EC", "ec_paramgen_curve:P-521"),
    "Ed25519": ("ED25519", ""),
    "odd name": ("EC", "ec_paramgen_curve:P-256"),
    "useless": ("EC", "ec_paramgen_curve:secp256k1"),
}
REQUEST: Final = b"""
[req]
distinguished_name = dn
string_mask = nombstr
prompt = no
req_extensions = ext
[dn]
CN = %s
[ext]
subjectAltName = DNS:localhost
"""
ODD: Final = b"M\xfcller & Co"  # becomes a T61String in Latin-1


def openssl(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=True).stdout


def issued(folder: Path, authority: Authority, kind: str) -> tuple[bytes, bytes]:
    """Return certificate and key in PEM."""
    folder.mkdir()
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    (folder / "ca.key").write_bytes(Credential((), authority.key).key_pem)
    (folder / "req.conf").write_bytes(REQUEST % (ODD if kind == "odd name" else b"localhost"))
    algorithm, option = KINDS[kind]
    openssl(folder, "genpkey", "-algorithm", algorithm, *(["-pkeyopt", option] if option else []), "-out", "x.key")
    openssl(folder, "req", "-new", "-key", "x.key", "-config", "req.conf", "-out", "x.csr")
    sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-copy_extensions", "copy", "-days", "30"]
    certificate = openssl(folder, "x509", "-req", "-in", "x.csr", *sign)
    return certificate, (folder / "x.key").read_bytes()


def fingerprint(certificate: bytes) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode())).hexdigest()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_renewal_by_every_layout(kind: str, tmp_path: Path) -> None:
    layouts = [layout(tmp_path / layout.name.replace(" ", "-")) for layout in LAYOUTS]
    async with open_house(tmp_path, layouts) as house:
        names = list(house.server.addresses)
        before = [await house.served(name, house.client_tls()) for name in names]
        certificate, key = issued(tmp_path / "issued", house.authority, kind)

        async def renewed(layout: Layout, name: str, old: str) -> None:
            since = len(house.told.events)
            await layout.put(certificate, key)
            if kind == "useless":
                event = await house.told.wait_for_failure(layout.home, since)
                assert "no client can use it" in event.reason
                assert await house.served(name, house.client_tls()) == old
                return
            wanted = fingerprint(certificate)
            folder = f"{layout.home}/"
            await house.told.wait(
                CertificatesReloaded, lambda e: e.fingerprint_sha256 == wanted and e.file.startswith(folder)
            )
            assert await house.served(name, house.client_tls()) == wanted

        async with trio.open_nursery() as nursery:
            for layout, name, old in zip(layouts, names, before, strict=True):
                nursery.start_soon(renewed, layout, name, old)
        assert bool(house.store.problems) is (kind == "useless")
