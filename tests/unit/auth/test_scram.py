"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, driven without a connection."""

import base64
import hashlib
import hmac
from pathlib import Path

import pytest
from auth_site import PASSWORD

from triosmtp.auth import PasswordFile, SaslContext
from triosmtp.auth.mechanism import MECHANISMS


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


NFD, NFC = "andre\u0301", "andr\u00e9"


def scram_client(first: str, server_first: str, binding: bytes = b"") -> str:
    fields = dict(part.split("=", 1) for part in server_first.split(","))
    header = first[: first.index("n=")]
    bare = first[len(header) :]
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    without = f"c={b64(header.encode() + binding)},r={fields['r']}"
    signature = hmac.digest(hashlib.sha256(key).digest(), f"{bare},{server_first},{without}".encode(), "sha256")
    return f"{without},p={b64(bytes(a ^ b for a, b in zip(key, signature, strict=True)))}"


@pytest.mark.parametrize(
    ("name", "flag", "plus", "mine", "theirs", "reason"),
    [
        ("SCRAM-SHA-256", "n", False, b"", b"", ""),
        ("SCRAM-SHA-256", "y", False, b"", b"", ""),
        ("SCRAM-SHA-256", "y", True, b"", b"", "on its way to the client"),  # who took -PLUS out of what we offered
        ("SCRAM-SHA-256", "p=tls-exporter", True, b"k", b"k", "is not available"),
        ("SCRAM-SHA-256-PLUS", "p=tls-exporter", True, b"k", b"k", ""),
        ("SCRAM-SHA-256-PLUS", "p=tls-exporter", True, b"k", b"l", "does not match"),  # there are two TLS connections
        ("SCRAM-SHA-256-PLUS", "p=tls-nonsense", True, b"k", b"k", "is not available"),
        ("SCRAM-SHA-256-PLUS", "n", True, b"k", b"", "no channel binding"),
        ("SCRAM-SHA-256-PLUS", "y", True, b"k", b"", "no channel binding"),
    ],
)
def test_scram_is_bound_to_its_tls_channel(
    tmp_path: Path, name: str, flag: str, plus: bool, mine: bytes, theirs: bytes, reason: str
) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"joe:{PASSWORD}\n")
    file = PasswordFile(path)
    context = SaslContext(hostname="h", channel_binding=lambda _: mine, offers_plus=plus)
    first = f"{flag},,n=joe,r=nonce"
    exchange = MECHANISMS[name].begin(context, first.encode())
    claim = None
    try:
        lookup = next(exchange)
        assert lookup.user == "joe"  # type: ignore[union-attr]
        challenge = exchange.send(file.lookup("joe"))
        derivation = exchange.send(scram_client(first, challenge.data.decode(), theirs).encode())  # type: ignore[union-attr]
        exchange.send(derivation.credentials.derive())  # type: ignore[union-attr]
    except StopIteration as stop:
        claim = stop.value
    assert claim is not None
    assert claim.proven is not bool(reason)
    assert claim.last.startswith(b"v=") is not bool(reason)
    assert claim.reason.endswith(reason)


@pytest.mark.parametrize(("actor", "told"), [(NFD, NFC), (NFC, NFC), ("", ""), ("root", "root")])
def test_scram_returns_prepared_names(tmp_path: Path, actor: str, told: str) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"{NFC}:{PASSWORD}\n")
    file = PasswordFile(path)
    first = f"n,{f'a={actor}' if actor else ''},n={NFD},r=nonce"
    exchange = MECHANISMS["SCRAM-SHA-256"].begin(SaslContext(hostname="h"), first.encode())
    lookup = next(exchange)
    challenge = exchange.send(file.lookup(lookup.user))  # type: ignore[union-attr]
    derivation = exchange.send(scram_client(first, challenge.data.decode()).encode())  # type: ignore[union-attr]
    keys = derivation.credentials.derive()  # type: ignore[union-attr]
    with pytest.raises(StopIteration) as stop:
        exchange.send(keys)
    assert (stop.value.value.user, stop.value.value.authorization, stop.value.value.proven) == (NFC, told, True)
