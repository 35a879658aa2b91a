"""The key of a domain: what has the same, what has another, and what has none."""

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.domain import DomainError, domain_key, name_key, pattern_key

# Characters of real names, forms that other software folds, and what it ignores.
LETTERS = "abkxz019-_ABKZ\u00fc\u00dc\u00df\u1e9e\u00e9\u0131\u0130\u017f\u212a\u03c3\u03c2\u03a3"
LETTERS += "\u05d0\u0627\u4f8b\u5b50\u30a2\u30fb"
HIDDEN = "\u00ad\u200b\u200c\u200d\u2060\ufeff\ufe0f\u034f\u180b\u0301\u0308\u3002\uff0e\uff61\uff41\uff21\u2024"
LABELS = st.text(st.sampled_from(LETTERS), min_size=1, max_size=12)
TEXTS = st.lists(st.text(st.sampled_from(LETTERS + HIDDEN) | st.characters(), max_size=8), max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("domain", "key"),
    [
        ("Example.ORG", "example.org"),
        ("B\u00dcCHER.Example", "xn--bcher-kva.example"),
        ("b\u0075\u0308cher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("a_b.b\u00fccher.example", "a_b.xn--bcher-kva.example"),
        ("xn--bcher-kva.b\u00fccher", "xn--bcher-kva.xn--bcher-kva"),
        ("stra\u00dfe.example", "xn--strae-oqa.example"),
        ("strasse.example", "strasse.example"),
        ("2.3", "2.3"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"),
        ("[IPV6:2001:0db8:0:0::1]", "[ipv6:2001:db8::1]"),
        ("[IPv6:::ffff:192.0.2.1]", "[192.0.2.1]"),
    ],
)
def test_key(domain: str, key: str) -> None:
    assert domain_key(domain) == key
    assert domain_key(key) == key


@pytest.mark.parametrize(
    "domain",
    [
        "", ".", "a.", ".a", "a..b", "-a", "a-", "a b", "a@b", "*.a", "a" * 64, "a." * 127 + "ab", "[", "[]", "[1.2.3]",
        "[IPv6:fe80::1%eth0]", "[192.0.2.1", "a\0b", "a\n", "example.org.\u00ad", "exam\u00adple.org", "\u00ada.org",
        "\u200b", "b\u00fccher.\ufeff", "ban\u212a.example", "\uff45xample.org", "example\u3002org", "\u0130.\uff41",
        "xn--\u00fc", "\u00fc_x", "\U0001f4e7.example", "\u00fc" * 64, "b\u00fccher.example.", "b\u00fccher..example",
    ],
)  # fmt: skip
def test_no_key(domain: str) -> None:
    with pytest.raises(DomainError):
        domain_key(domain)


@given(st.lists(LABELS, min_size=1, max_size=4).map(".".join))
def test_the_u_form_and_the_a_form_have_one_key(domain: str) -> None:
    try:
        key = domain_key(domain)
    except DomainError:
        return  # it has no key
    assert key.isascii()
    assert key == key.lower()
    assert domain_key(key) == key
    assert domain_key(domain.upper() if domain.isascii() else domain) == key
    for label in key.split("."):
        if not label.startswith("xn--"):
            continue
        try:
            u_form = idna.ulabel(label)
        except idna.IDNAError:  # it came as it is
            continue
        assert domain_key(u_form) == label


@given(st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True), min_size=2, max_size=2))
def test_no_two_a_labels_share_a_key(labels: list[str]) -> None:
    keys = []
    for label in labels:
        try:
            keys.append(domain_key(f"xn--{label}"))
        except DomainError:
            return
    assert (keys[0] == keys[1]) is (labels[0].lower() == labels[1].lower())


@given(TEXTS)
def test_any_text_has_a_key_or_none(text: str) -> None:
    for make in (domain_key, name_key, pattern_key):
        try:
            key = make(text)
        except DomainError:
            continue
        assert make(key) == key
        assert key.isascii()
        assert key.isprintable()
        assert len(key) <= 255
        if not text.isascii() and make is not pattern_key:
            # Nothing is dropped, and nothing beyond ASCII becomes ASCII.
            assert len(text.split(".")) == len(key.split("."))
            assert all(
                a.isascii() or b.startswith("xn--") for a, b in zip(text.split("."), key.split("."), strict=True)
            )


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        ("*", "*"),
        ("*.Example.org", "*.example.org"),
        ("*Example.org", "*example.org"),
        ("*.b\u00fccher.example", "*.xn--bcher-kva.example"),
        ("*mail.b\u00fccher.example", "*mail.xn--bcher-kva.example"),
        ("[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"),
    ],
)
def test_pattern(pattern: str, key: str) -> None:
    assert pattern_key(pattern) == key


@pytest.mark.parametrize(
    "pattern",
    ["", "**", "*.", "*..a", ".a", "a.*", "a*", "*.*.a", "*[192.0.2.1]", "*.[192.0.2.1]", "*b\u00fccher.example",
     "*xn--bcher-kva.example", "*.exam\u00adple.org", "*-a"],
)  # fmt: skip
def test_no_pattern(pattern: str) -> None:
    with pytest.raises(DomainError):
        pattern_key(pattern)


def test_a_literal_is_no_name() -> None:
    with pytest.raises(DomainError):
        name_key("[192.0.2.1]")
