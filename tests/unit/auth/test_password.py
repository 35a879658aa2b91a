"""Hashes of passwords: each scheme, their parameters, and SASLprep."""

import base64
import hmac

import pytest

from triosmtp.auth.password import (
    SCHEMES,
    derive_scram_keys,
    hash_form,
    hash_password,
    is_hash,
    parse_scram_record,
    prepare_password,
    verify_password,
)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_hash_matches_its_password_alone(scheme: str) -> None:
    stored = hash_password("correct horse", scheme)
    assert is_hash(stored)
    assert verify_password(stored, "correct horse")
    assert not verify_password(stored, "correct horsE")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_two_hashes_of_one_password_differ_in_their_salt(scheme: str) -> None:
    one, other = (hash_password("x", scheme) for _ in range(2))
    assert one != other
    assert hash_form(one) == hash_form(other) != ""


def test_a_password_in_clear_text_is_compared_as_it_is() -> None:
    assert not is_hash("$1$x")
    assert hash_form("secret") == ""
    assert verify_password("secret", "secret")
    assert not verify_password("secret", "Secret")


@pytest.mark.parametrize("stored", ["$argon2id$x", "$scrypt$x", "$pbkdf2-sha256$x", "SCRAM-SHA-256$1:YWJj$YWJj:YWJj"])
def test_a_malformed_hash_is_an_error(stored: str) -> None:
    with pytest.raises(ValueError, match="malformed"):
        hash_form(stored)
    if stored.startswith("$argon2"):  # the library does not tell a malformed hash from another password
        assert not verify_password(stored, "x")
        return
    with pytest.raises(ValueError, match="malformed"):
        verify_password(stored, "x")


def test_an_unknown_scheme_is_an_error() -> None:
    with pytest.raises(
        ValueError, match="expected a scheme of argon2id, scrypt, pbkdf2-sha256, scram-sha-256, not 'md5'"
    ):
        hash_password("x", "md5")


def test_the_keys_of_scram_are_those_of_the_example_of_rfc_7677() -> None:
    """RFC 7677, section 3: user ``user``, password ``pencil``."""
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    salt = "W22ZaJ0SNY7soEsUEjb6gQ=="
    message = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s={salt},i=4096,c=biws,r={nonce}"
    keys = derive_scram_keys("pencil", base64.b64decode(salt), 4096)
    signature = hmac.digest(keys.server_key, message.encode(), "sha256")
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_a_scram_record_is_parsed_as_it_is_written() -> None:
    parsed = parse_scram_record(hash_password("pencil", "scram-sha-256"))
    assert parsed == derive_scram_keys("pencil", parsed.salt, parsed.iterations)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [("joe", "joe"), ("andre\u0301", "andr\u00e9"), ("a\u00adb", "ab"), ("\u2168", "IX"), ("a\u00a0b", "a b")],
)
def test_saslprep_normalises_names_and_passwords(text: str, prepared: str) -> None:
    assert prepare_password(text) == prepared


@pytest.mark.parametrize("text", ["", "\x07", "a\x7f", "\u00ad", "\ue000"])
def test_saslprep_forbids_empty_texts_and_control_characters(text: str) -> None:
    with pytest.raises(ValueError, match="name or password"):
        prepare_password(text)
