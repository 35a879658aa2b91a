"""The mechanisms, driven without a connection."""

import hashlib
import re
from pathlib import Path

import pytest
from auth_site import PASSWORD

from triosmtp.auth import MalformedResponse, PasswordFile, SaslContext, hash_password
from triosmtp.auth.mechanism import MECHANISMS

NFD, NFC = "andre\u0301", "andr\u00e9"


def test_a_certificate_may_name_its_own_identity_in_any_form() -> None:
    def claim(identity: str, wanted: str) -> bool:
        exchange = MECHANISMS["EXTERNAL"].begin(SaslContext(hostname="h", identity=identity), wanted.encode())
        with pytest.raises(StopIteration) as stop:
            next(exchange)
        assert stop.value.value.user == identity
        proven: bool = stop.value.value.proven
        return proven

    assert claim(NFC, NFD)
    assert claim(NFD, NFC)
    assert claim("a", "")
    assert not claim("a", "A")
    assert claim("ban\u212a", "ban\u212a")
    with pytest.raises(MalformedResponse):
        claim("a", "a\x07")


@pytest.mark.parametrize(("actor", "told"), [(NFD, NFC), (NFC, NFC), ("root", "root")])
def test_digest_md5_returns_prepared_names(tmp_path: Path, actor: str, told: str) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"{NFC}:{PASSWORD}\n")
    exchange = MECHANISMS["DIGEST-MD5"].begin(SaslContext(hostname="h"), None)
    nonce = re.findall(r'nonce="([^"]+)"', next(exchange).data.decode())[0]  # type: ignore[union-attr]

    def md5(text: bytes) -> bytes:
        return hashlib.md5(text).hexdigest().encode()

    secret = hashlib.md5(f"{NFC}:h:{PASSWORD}".encode()).digest()
    a1 = md5(secret + f":{nonce}:c:{actor}".encode())
    response = md5(b":".join((a1, nonce.encode(), b"00000001", b"c", b"auth", md5(b"AUTHENTICATE:smtp/h")))).decode()
    answer = f'username="{NFC}",nonce="{nonce}",cnonce="c",nc=00000001,digest-uri="smtp/h",response={response},'
    lookup = exchange.send(f'{answer}realm="h",authzid="{actor}"'.encode())
    secrets = PasswordFile(path).lookup(lookup.user)  # type: ignore[union-attr]
    with pytest.raises(StopIteration) as stop:
        exchange.send(secrets)
    assert (stop.value.value.user, stop.value.value.authorization, stop.value.value.proven) == (NFC, told, True)


ARGON2 = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHQ"


SCRAM = hash_password("x", "scram-sha-256")


def test_each_mechanism_counts_the_users_that_it_can_serve(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"text:x\nhash:{ARGON2}\nscram:{SCRAM}\n")
    file = PasswordFile(path)
    file.check()
    assert [(name, file.served_by(each.forms)) for name, each in MECHANISMS.items()] == [
        ("EXTERNAL", 0), ("SCRAM-SHA-256-PLUS", 2), ("SCRAM-SHA-256", 2), ("DIGEST-MD5", 1), ("CRAM-MD5", 1),
        ("PLAIN", 3), ("LOGIN", 3),
    ]  # fmt: skip
