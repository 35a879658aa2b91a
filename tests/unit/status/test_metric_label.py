"""Label values are from fixed sets: a peer cannot make a new one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.status import metric_label as label


@given(st.text(max_size=40))
def test_no_text_of_a_peer_becomes_a_label(text: str) -> None:
    assert label.limited(text, label.VERBS) in label.VERBS
    assert label.key_exchange_group(text) in label.GROUPS
    assert label.cipher_class(text) in label.CIPHERS
    assert label.decider(text) in label.DECIDERS | {label.OTHER}
    assert label.auth_mechanism(text) in label.AUTH_MECHANISMS | {label.OTHER}


@given(st.integers())
def test_every_number_has_one_of_few_labels(number: int) -> None:
    assert label.verify_reason(number) in label.VERIFY_REASONS
    assert label.reply_code(number) in label.CODES | {"4xx", "5xx"}


def test_names_are_limited_in_number() -> None:
    names = label.LabelNames(limit=2)
    assert [names(each) for each in ("a", "b", "c", "a", "b", "d")] == ["a", "b", "other", "a", "b", "other"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("X25519", "x25519"),
        ("prime256v1", "secp256r1"),
        ("X25519MLKEM768", "X25519MLKEM768"),
        (None, "none"),
        ("", "none"),
    ],
)
def test_groups_have_the_names_of_iana(name: str | None, expected: str) -> None:
    assert label.key_exchange_group(name) == expected


@pytest.mark.parametrize(
    ("suite", "expected"),
    [("TLS_AES_256_GCM_SHA384", "aes256-gcm"), ("ECDHE-RSA-AES128-GCM-SHA256", "aes128-gcm"), ("AES128-SHA", "aes-cbc"),
     ("TLS_CHACHA20_POLY1305_SHA256", "chacha20-poly1305"), ("ECDHE-ECDSA-AES256-CCM", "aes-ccm")],
)  # fmt: skip
def test_suites_are_named_by_their_cipher(suite: str, expected: str) -> None:
    assert label.cipher_class(suite) == expected
