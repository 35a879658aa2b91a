"""Files of credentials: a .creds file, and a file with one secret."""

import base64
import binascii
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from triosmtp.jetstream.nats_credentials import NATSCredentialsError, read_credentials, read_secret

KEY = Ed25519PrivateKey.generate()
JWT = "eyJ0eXAi.eyJqdGki.c2ln_-"


def seed(prefix: int = 20, *, crc: int = 0) -> str:
    raw = KEY.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    data = bytes((144 | (prefix << 3) >> 5, ((prefix << 3) & 31) << 3)) + raw  # "S", and the kind of the key
    return base64.b32encode(data + (binascii.crc_hqx(data, crc)).to_bytes(2, "little")).decode().rstrip("=")


def creds(jwt: str = JWT, found: str = "") -> str:
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"************************* IMPORTANT *************************\n"
        f"-----BEGIN USER NKEY SEED-----\n{found or seed()}\n------END USER NKEY SEED------\n"
    )


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "user.creds"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_of_credentials_signs_with_its_seed(tmp_path: Path) -> None:
    found = read_credentials(write(tmp_path, creds()))
    assert found.jwt == JWT
    signature = base64.urlsafe_b64decode(found.sign("nonce") + b"==")
    KEY.public_key().verify(signature, b"nonce")
    assert JWT not in repr(found)


def test_line_ends_of_windows_are_accepted(tmp_path: Path) -> None:
    assert read_credentials(write(tmp_path, creds().replace("\n", "\r\n"))).jwt == JWT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected a NATS USER JWT and a USER NKEY SEED"),
        (creds().split("****")[0], "expected a NATS USER JWT"),
        ("-----BEGIN NATS USER JWT-----\n", "expected a NATS USER JWT"),
        (creds(found="SUAAAA"), "malformed"),
        (creds(found=seed(prefix=0)), "malformed"),
        (creds(found=seed(crc=1)), "checksum"),
        (creds(found="S"), "malformed"),
    ],
)
def test_a_malformed_file_is_an_error_that_names_it(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(NATSCredentialsError, match=expected) as caught:
        read_credentials(path)
    assert str(path) in str(caught.value)
    assert seed() not in str(caught.value)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NATSCredentialsError, match="No such file"):
        read_credentials(tmp_path / "missing")
    with pytest.raises(NATSCredentialsError):
        read_secret(tmp_path)
    with pytest.raises(NATSCredentialsError, match="larger"):
        read_secret(write(tmp_path, "x" * 70_000))


@pytest.mark.parametrize("text", ["pa ss", "pa ss\n", "pa ss\r\n"])
def test_a_secret_is_one_line(tmp_path: Path, text: str) -> None:
    assert read_secret(write(tmp_path, text)) == "pa ss"


@pytest.mark.parametrize("text", ["", "\n", "one\ntwo\n"])
def test_a_file_with_no_line_or_several_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(NATSCredentialsError, match="one line"):
        read_secret(write(tmp_path, text))
