"""Options of a configuration as OpenSSL's s_client and GnuTLS's gnutls-cli see them in `triosmtp serve`, a test a row.

The results of sslscan are in `test_sslscan.py`.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509 import ocsp
from scanned_server import ONLY_ECDSA, authority, serving
from scanner import gnutls_cli, renegotiate, s_client

from triosmtp.x509.authority import Credential

FLAGS = ("-tls1_2", "-tls1_3")
ENDED = "\n221 2.0.0 "
CLIENT_CA = 'TLS_Client_CA = "{folder}/ca.pem"'
NAMES = "Acceptable client certificate CA names\nCN = Scanned Root\n"


def test_tls_certificate_and_tls_key(tmp_path: Path) -> None:
    """Each client gets the certificate that it can use, and goes on in SMTP."""
    kinds = {"RSA": ("RSA+SHA256:RSA-PSS+SHA256", "RSA-PSS"), "ECDSA": ("ECDSA+SHA256", "ECDSA")}
    with serving(tmp_path) as server:
        for port in server.ports:
            for kind, (signatures, seen) in kinds.items():
                for flag in FLAGS:
                    printed = s_client(port, flag, "-sigalgs", signatures)
                    assert f"Peer signature type: {seen}\n" in printed
                    assert ENDED in printed
                printed = gnutls_cli(port, f"--priority=NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-{kind}")
                assert f")-({kind}-" in printed
                assert ENDED in printed


def test_tls_key_password_file(tmp_path: Path) -> None:
    credential = authority().issue("locked.example", dns=["locked.example"])
    credential.write(tmp_path, "locked")
    secret = BestAvailableEncryption(b"correct horse")
    (tmp_path / "locked.key").write_bytes(credential.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    (tmp_path / "password").write_bytes(b"correct horse\n")
    (tmp_path / "password").chmod(0o600)
    identity = ONLY_ECDSA.replace("ecdsa.", "locked.") + 'TLS_Key_Password_File = "{folder}/password"'
    with serving(tmp_path, identity=identity) as server:
        for port in server.ports:
            assert "subject=CN = locked.example" in s_client(port)


def test_server_name(tmp_path: Path) -> None:
    authority().issue("mx.example.org", dns=["mx.example.org"]).write(tmp_path, "mx")
    authority().issue("*.example.net", dns=["*.example.net"]).write(tmp_path, "any")
    scopes = "".join(
        f'Server_Name "{name}" {{ TLS_Certificate = "{{folder}}/{file}.pem" TLS_Key = "{{folder}}/{file}.key" }}\n'
        for name, file in (("mx.example.org", "mx"), ("*.example.net", "any"))
    )
    shown = {
        "mx.example.org": "mx.example.org",
        "a.example.net": "*.example.net",
        "a.b.example.net": "localhost",
        "example.net": "localhost",
    }
    with serving(tmp_path, in_listen=scopes) as server:
        for port in server.ports:
            for asked, subject in shown.items():
                assert f"subject=CN = {subject}\n" in s_client(port, "-servername", asked)
                assert f"subject `CN={subject}'" in gnutls_cli(port, f"--sni-hostname={asked}")
            assert "subject=CN = localhost\n" in s_client(port, "-noservername")


def response(credential: Credential) -> bytes:
    now, root = datetime.now(UTC), authority()
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=credential.certificate, issuer=root.certificate, algorithm=hashes.SHA1(),
        cert_status=ocsp.OCSPCertStatus.GOOD, this_update=now - timedelta(hours=1),
        next_update=now + timedelta(hours=1), revocation_time=None, revocation_reason=None,
    ).responder_id(ocsp.OCSPResponderEncoding.HASH, root.certificate)  # fmt: skip
    return builder.sign(root.key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_tls_ocsp_response(tmp_path: Path) -> None:
    credential = authority().issue("localhost", dns=["localhost"])
    credential.write(tmp_path, "stapled")
    (tmp_path / "ocsp.der").write_bytes(response(credential))
    identity = ONLY_ECDSA.replace("ecdsa.", "stapled.")
    with serving(tmp_path, 'TLS_OCSP_Response = "{folder}/ocsp.der"', identity=identity) as server:
        for port in server.ports:
            for flag in FLAGS:
                assert "Cert Status: good" in s_client(port, flag, "-status")
    with serving(tmp_path, identity=identity) as server:
        assert "OCSP response: no response sent" in s_client(server.tls, "-status")


def test_alpn(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for port in server.ports:
            for flag in FLAGS:
                assert "ALPN protocol: smtp" in s_client(port, flag, "-alpn", "smtp,h2")
                assert "No ALPN negotiated" in s_client(port, flag)
                assert "alert no application protocol" in s_client(port, flag, "-alpn", "h2,http/1.1")


@pytest.mark.parametrize("mode", ["none", "optional", "require"])
def test_tls_client_ca_and_tls_verify_mode(mode: str, tmp_path: Path) -> None:
    with serving(tmp_path, f'{CLIENT_CA} TLS_Verify_Mode = "{mode}"') as server:
        for port in server.ports:
            for flag in FLAGS:
                printed = s_client(port, flag)
                assert (NAMES in printed) is (mode != "none")
                assert ENDED in printed  # the session continues without a certificate, in any mode


def test_tls_verify_mode_none_for_a_peer(tmp_path: Path) -> None:
    peer = 'Peer "127.0.0.0/8" { TLS_Verify_Mode = "none" }'
    with serving(tmp_path, CLIENT_CA, in_listen=peer) as server:
        for port in server.ports:
            assert NAMES not in s_client(port)


def test_tls_send_client_ca_names(tmp_path: Path) -> None:
    with serving(tmp_path, f"{CLIENT_CA} TLS_Send_Client_CA_Names = false") as server:
        for port in server.ports:
            printed = s_client(port, "-tls1_2")
            assert "No client certificate CA names sent" in printed
            assert "Client Certificate Types:" in printed  # asked it is


@pytest.mark.parametrize("allow", [True, False])
def test_tls_allow_renegotiation(allow: bool, tmp_path: Path) -> None:
    with serving(tmp_path, f"TLS_Allow_Renegotiation = {str(allow).lower()}") as server:
        for port in server.ports:
            printed = renegotiate(port)
            assert ("250 2.0.0 " in printed) is allow
            assert (":no renegotiation:" in printed) is not allow


def test_tls_handshakes_per_peer(tmp_path: Path) -> None:
    """Without a reply under Use_SSL; that STARTTLS is 454, these clients do not tell."""
    with serving(tmp_path, 'TLS_Handshakes_Per_Peer = "2/3600"') as server:
        for _ in range(2):
            assert ENDED in s_client(server.tls)
        assert "Cipher is (NONE)" in s_client(server.tls)
        assert "Handshake was completed" not in gnutls_cli(server.tls)
