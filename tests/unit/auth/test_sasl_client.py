"""SASL as a client, against the server's side, and against servers that are none."""

import base64
from pathlib import Path
from typing import Any

import pytest

from triosmtp.auth import KeyDerivation, Lookup, PasswordFile, SaslClient, SaslClientError, SaslContext
from triosmtp.auth.mechanism import MECHANISMS
from triosmtp.auth.sasl_exchange import Challenge, Claim

PASSWORD = "p\u00e4ss=wo,rd"


def run(client: SaslClient, path: Path, password: str = PASSWORD) -> Claim:
    """Run the exchange with the server's mechanism; return what the server found."""
    path.write_text(f"joe:{password}\n")
    file = PasswordFile(path)
    exchange = MECHANISMS[client.mechanism].begin(SaslContext(hostname="h"), client.initial)
    answer: Any = None
    while True:
        try:
            step = next(exchange) if answer is None else exchange.send(answer)
        except StopIteration as stop:
            claim: Claim = stop.value
            return claim
        if isinstance(step, Challenge):
            answer = client.respond(step.data)
        elif isinstance(step, Lookup):
            answer = file.lookup(step.user)
        else:
            assert isinstance(step, KeyDerivation)
            answer = step.credentials.derive()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ({"PLAIN", "SCRAM-SHA-256", "LOGIN"}, "SCRAM-SHA-256"),
        ({"CRAM-MD5", "PLAIN", "LOGIN"}, "PLAIN"),
        ({"LOGIN", "SCRAM-SHA-256-PLUS"}, "LOGIN"),
    ],
)
def test_the_best_mechanism_is_used(offered: set[str], chosen: str, tmp_path: Path) -> None:
    client = SaslClient(offered, "joe", PASSWORD)
    assert client.mechanism == chosen
    claim = run(client, tmp_path / "users")
    if chosen == "SCRAM-SHA-256":
        assert claim.proven
        assert client.respond(claim.last) == b""
    else:
        assert (claim.user, claim.password) == ("joe", PASSWORD)
    client.check_success()


def test_a_wrong_password(tmp_path: Path) -> None:
    client = SaslClient({"SCRAM-SHA-256"}, "joe", "wrong")
    assert not run(client, tmp_path / "users").proven
    with pytest.raises(SaslClientError, match="without a proof"):
        client.check_success()


def test_no_mechanism_in_common() -> None:
    with pytest.raises(SaslClientError, match="offers none of SCRAM-SHA-256, PLAIN, LOGIN; it offers GSSAPI"):
        SaslClient({"GSSAPI"}, "joe", PASSWORD)


def first(client: SaslClient, **changes: str) -> bytes:
    assert client.initial is not None
    nonce = client.initial.decode().rpartition("r=")[2]
    fields = {"r": f"{nonce}server", "s": base64.b64encode(b"salt").decode(), "i": "4096"} | changes
    return ",".join(f"{name}={value}" for name, value in fields.items()).encode()


@pytest.mark.parametrize(
    "changes", [{"r": "other"}, {"i": "4095"}, {"i": "1"}, {"i": "1000001"}, {"i": "99999999"}, {"s": "="}, {"s": ""}]
)
def test_an_impostor_chooses_neither_nonce_nor_work(changes: dict[str, str]) -> None:
    client = SaslClient({"SCRAM-SHA-256"}, "joe", PASSWORD)
    with pytest.raises(SaslClientError):
        client.respond(first(client, **changes))


@pytest.mark.parametrize("last", [b"v=" + base64.b64encode(bytes(32)), b"e=other-error", b"v=", b"", b"\xff", b"v=?"])
def test_an_impostor_that_does_not_know_the_password(last: bytes) -> None:
    client = SaslClient({"SCRAM-SHA-256"}, "joe", PASSWORD)
    assert client.respond(first(client)).startswith(b"c=biws,r=")
    with pytest.raises(SaslClientError):
        client.respond(last)
    with pytest.raises(SaslClientError):
        client.respond(b"")


def test_one_challenge_too_many() -> None:
    client = SaslClient({"PLAIN"}, "joe", PASSWORD)
    assert client.initial == f"\0joe\0{PASSWORD}".encode()
    with pytest.raises(SaslClientError, match="one challenge too many for PLAIN"):
        client.respond(b"")
    with pytest.raises(SaslClientError, match="too long"):
        client.respond(b"x" * 2049)


def test_a_password_that_scram_forbids() -> None:
    client = SaslClient({"SCRAM-SHA-256"}, "joe", "a\x07b")
    with pytest.raises(SaslClientError, match="cannot be used with SCRAM-SHA-256"):
        client.respond(first(client))
