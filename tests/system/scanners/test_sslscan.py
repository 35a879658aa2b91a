"""A running server scanned by sslscan: nothing weak by default, and each option removes what it disables."""

import subprocess
from pathlib import Path

import pytest
from scanned_server import BOTH, ONLY_ECDSA, ONLY_RSA, serving
from scanner import sslscan

ALL_VERSIONS = {"TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"}
MODERN = {"TLSv1.2", "TLSv1.3"}


def test_nothing_weak_at_defaults(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for port in server.ports:
            scan = sslscan(port)
            assert scan.protocols == MODERN
            assert not scan.compression
            assert not scan.vulnerable
            assert not scan.expired
            assert scan.key == "EC"
            assert {cipher.strength for cipher in scan.ciphers} == {"strong", "acceptable"}
            assert min(cipher.bits for cipher in scan.ciphers) == 128
            assert {cipher.dh_bits for cipher in scan.ciphers if cipher.kind == "DHE-RSA"} == {2048}
            assert scan.listen_names("TLSv1.3") == {
                "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256",
            }  # fmt: skip
            # DEFAULT keeps ciphers of TLS 1.2 that a scanner mentions: CBC, and RSA without forward secrecy.
            print(f"{port}: {', '.join(cipher.name for cipher in scan.ciphers)}")
            assert {cipher.kind for cipher in scan.ciphers} == {"TLSv1.3", "ECDHE-ECDSA", "ECDHE-RSA", "DHE-RSA", "RSA"}


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("+ALL", MODERN),
        ("+ALL:-TLSv1.2", {"TLSv1.3"}),
        ("+ALL:-TLSv1.3", {"TLSv1.2"}),
        ("+ALL:+TLSv1.0:+TLSv1.1", ALL_VERSIONS),
        ("+ALL:+TLSv1.1", ALL_VERSIONS - {"TLSv1.0"}),
    ],
)
def test_tls_protocols(value: str, seen: set[str], tmp_path: Path) -> None:
    with serving(tmp_path, f'TLS_Protocols = "{value}"') as server:
        for port in server.ports:
            scan = sslscan(port)
            assert scan.protocols == seen
            assert {cipher.protocol for cipher in scan.ciphers} == seen


def test_tls_ciphers(tmp_path: Path) -> None:
    with serving(tmp_path, 'TLS_Ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20:TLS_AES_128_GCM_SHA256"') as server:
        for port in server.ports:
            scan = sslscan(port)
            assert scan.listen_names("TLSv1.3") == {"TLS_AES_128_GCM_SHA256"}
            assert scan.listen_names("TLSv1.2") == {
                f"ECDHE-{kind}-{cipher}"
                for kind in ("ECDSA", "RSA")
                for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256", "CHACHA20-POLY1305")
            }
            assert {cipher.strength for cipher in scan.ciphers if cipher.protocol == "TLSv1.2"} == {"strong"}


def test_tls_enable_dhe_ciphers(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        before = sslscan(server.tls).names
    with serving(tmp_path, everywhere="TLS_Enable_DHE_Ciphers = false") as server:
        for port in server.ports:
            assert sslscan(port).names == {name for name in before if not name.startswith("DHE-")}
    assert any(name.startswith("DHE-") for name in before)


def test_tls_dhparams_file(tmp_path: Path) -> None:
    command = ["openssl", "dhparam", "-dsaparam", "-out", str(tmp_path / "dh.pem"), "2304"]
    subprocess.run(command, check=True, capture_output=True)
    with serving(tmp_path, everywhere='TLS_DHParams_File = "{folder}/dh.pem"') as server:
        for port in server.ports:
            scan = sslscan(port)
            assert {cipher.dh_bits for cipher in scan.ciphers if cipher.kind == "DHE-RSA"} == {2304}


@pytest.mark.parametrize(
    ("identity", "kinds"),
    [(BOTH, {"RSA", "ECDSA"}), (ONLY_RSA, {"RSA"}), (ONLY_ECDSA, {"ECDSA"})],
    ids=["both", "RSA", "ECDSA"],
)
def test_tls_certificate(identity: str, kinds: set[str], tmp_path: Path) -> None:
    with serving(tmp_path, identity=identity) as server:
        for port in server.ports:
            scan = sslscan(port)
            assert {cipher.kind.removeprefix("ECDHE-") for cipher in scan.ciphers if "ECDHE" in cipher.kind} == kinds
            assert scan.key == ("EC" if "ECDSA" in kinds else "RSA")
            assert scan.subject == "localhost"
