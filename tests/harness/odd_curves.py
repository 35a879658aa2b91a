"""Certificates whose keys are on curves that TLS clients seldom offer, made by OpenSSL's own program."""

import subprocess
from functools import cache
from pathlib import Path

from triosmtp.tls import CertificateFiles

__all__ = ["ODD_CURVES", "on_curve", "write"]

ODD_CURVES = ("secp256k1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1", "secp224r1", "sect233k1")


@cache
def on_curve(curve: str) -> tuple[bytes, bytes]:
    """Return a self-signed certificate and its key, in PEM."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-nodes"]
    command += ["-subj", "/CN=mx.example.org", "-addext", "subjectAltName=DNS:mx.example.org", "-days", "99"]
    run = subprocess.run([*command, "-keyout", "-"], capture_output=True, check=True)
    key, _, certificate = run.stdout.partition(b"-----BEGIN CERTIFICATE-----")
    return b"-----BEGIN CERTIFICATE-----" + certificate, key


def write(folder: Path, certificate: bytes, key: bytes, name: str = "mx") -> CertificateFiles:
    """Write both into files."""
    (folder / f"{name}.pem").write_bytes(certificate)
    (folder / f"{name}.key").write_bytes(key)
    (folder / f"{name}.key").chmod(0o600)
    return CertificateFiles(folder / f"{name}.pem", folder / f"{name}.key")
