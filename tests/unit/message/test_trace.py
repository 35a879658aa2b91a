import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.message import trace
from triosmtp.message.trace import (
    _fold,
    _fold_plain,
    _registered_name,
    address_field,
    field,
    has_field,
    received_field,
    separator,
)
from triosmtp.variables import TLSInfo

MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
TLS = TLSInfo(
    protocol="TLSv1.3",
    cipher="TLS_AES_256_GCM_SHA384",
    cipher_algbits=256,
    cipher_usebits=256,
    group="X25519MLKEM768",
    verified=True,
    client_certificate=b"DER",
    client_subject_cn="mx.client.example",
)


def received(
    helo: str | None = "client.example",
    peer_address: str | None = "192.0.2.1",
    peer_name: str | None = None,
    recipient: str | None = None,
    tls: TLSInfo | None = None,
    *,
    extended: bool = True,
    smtputf8: bool = False,
    authenticated: bool = False,
    moment: datetime = MOMENT,
) -> bytes:
    return received_field(
        helo=helo, peer_address=peer_address, peer_name=peer_name, by="mx.example.com", id="s1-1", moment=moment,
        extended=extended, smtputf8=smtputf8, authenticated=authenticated, recipient=recipient, tls=tls,
    )  # fmt: skip


def unfolded(value: bytes) -> str:
    assert value.endswith(b"\r\n")
    return value[:-2].replace(b"\r\n", b"").decode()


def test_a_received_field_with_every_clause() -> None:
    assert received(tls=TLS, recipient="joe@example.com", peer_name="host.example") == (
        b"Received: from client.example (host.example [192.0.2.1])\r\n"
        b" (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits), group\r\n"
        b' X25519MLKEM768) (client certificate CN "mx.client.example" verified)\r\n'
        b" by mx.example.com with ESMTPS id s1-1 for <joe@example.com>\r\n"
        b" tls TLS_AES_256_GCM_SHA384; Tue, 03 Feb 2026 04:05:06 +0000\r\n"
    )


def test_an_address_is_whole_or_left_out() -> None:
    longest = "x" * 888 + "@example.com"
    for recipient in (longest, "\u00fc" * 444 + "@example.com"):
        assert f" <{recipient}>;".encode() in received(recipient=recipient, smtputf8=True)
    for recipient in ("x" + longest, "\u00fc" * 445 + "@example.com"):
        assert b"for <" not in received(recipient=recipient)
    assert all(len(line) <= 998 for line in received(recipient=longest).split(b"\r\n"))
    assert address_field("X", longest * 3) == f"X: {longest * 3}\r\n".encode()
    assert address_field("X", "a\r\nb\x00@c") == b"X: a??b?@c\r\n"


def test_plaintext() -> None:
    assert unfolded(received()) == (
        "Received: from client.example ([192.0.2.1]) by mx.example.com with ESMTP id s1-1;"
        " Tue, 03 Feb 2026 04:05:06 +0000"
    )


@pytest.mark.parametrize(
    ("extended", "smtputf8", "tls", "authenticated", "word"),
    [
        (False, False, None, False, "SMTP"),
        (False, False, TLS, False, "SMTP"),
        (True, False, None, False, "ESMTP"),
        (True, False, None, True, "ESMTPA"),
        (True, False, TLS, False, "ESMTPS"),
        (True, False, TLS, True, "ESMTPSA"),
        (True, True, None, False, "UTF8SMTP"),
        (True, True, TLS, True, "UTF8SMTPSA"),
    ],
)
def test_the_protocol_word(extended: bool, smtputf8: bool, tls: TLSInfo | None, authenticated: bool, word: str) -> None:
    text = unfolded(received(extended=extended, smtputf8=smtputf8, tls=tls, authenticated=authenticated))
    assert f" with {word} id " in text


@pytest.mark.parametrize(
    ("helo", "address", "expected"),
    [
        ("client.example", "2001:db8::1", "from client.example ([IPv6:2001:db8::1]) by"),
        ("[192.0.2.1]", "192.0.2.1", "from [192.0.2.1] ([192.0.2.1]) by"),
        ("c.example", "fe80::1%eth0", "from c.example ([IPv6:fe80::1]) by"),
        (None, "192.0.2.1", "from [192.0.2.1] ([192.0.2.1]) by"),
        ("c.example", None, "from c.example by"),
        (None, None, "from unknown by"),
        ("a b (c) \\;\r\nX: y", "192.0.2.1", "from a?b??c??????X:?y ([192.0.2.1]) by"),
        ("bücher.example", "192.0.2.1", "from b?cher.example ([192.0.2.1]) by"),
    ],
)
def test_the_from_clause_names_the_peer(helo: str | None, address: str | None, expected: str) -> None:
    assert unfolded(received(helo, address)).startswith(f"Received: {expected} mx.example.com")


def test_utf8_is_kept_where_the_message_may_hold_it() -> None:
    text = unfolded(received("bücher.example", smtputf8=True, recipient="jörg@bücher.example"))
    assert "from bücher.example" in text
    assert "for <jörg@bücher.example>" in text


@pytest.mark.parametrize(
    ("tls", "comment"),
    [
        (TLS, '(client certificate CN "mx.client.example" verified)'),
        (evolve(TLS, client_subject_cn=None), "(client certificate verified)"),
        (
            evolve(TLS, verified=False, verify_error="certificate has expired"),
            '(client certificate CN "mx.client.example" not verified: certificate has expired)',
        ),
        (evolve(TLS, verified=False, client_certificate=None), "(no client certificate)"),
        (
            evolve(TLS, verified=False, verify_error="x", client_subject_cn='a" verified) \\ (\r\nX: y\x00'),
            '(client certificate CN "a\\" verified\\) \\\\ \\(??X: y?" not verified: x)',
        ),
    ],
)
def test_the_client_certificate(tls: TLSInfo, comment: str) -> None:
    assert f" {comment} by mx" in unfolded(received(tls=tls))


def test_no_certificate_can_end_its_comment() -> None:
    @given(st.text(max_size=300), st.booleans())
    def check(name: str, utf8: bool) -> None:
        raw = received(tls=evolve(TLS, client_subject_cn=name, verified=False), smtputf8=utf8)
        text = unfolded(raw)
        assert utf8 or text.isascii()
        assert all(c.isprintable() or c in " \u00a0" or ord(c) > 0xA0 for c in text)
        depth, escaped, outside = 0, False, ""
        for c in text:
            if escaped:
                escaped = False
            elif c == "\\":
                escaped = True
            elif c == "(":
                depth += 1
            elif c == ")":
                depth -= 1
                assert depth >= 0
            elif depth == 0:
                outside += c
        assert depth == 0
        assert "verified" not in outside
        assert all(line[:1] in {b" ", b"R"} and line.strip() for line in raw[:-2].split(b"\r\n"))

    check()


def test_the_date_is_in_utc() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    assert b"; Mon, 02 Feb 2026 22:35:06 +0000" in received(moment=MOMENT.replace(tzinfo=east))
    with pytest.raises(ValueError, match="zone"):
        received(moment=MOMENT.replace(tzinfo=None))


def test_old_ciphers_get_their_registered_names() -> None:
    tls = evolve(TLS, protocol="TLSv1.2", cipher="ECDHE-RSA-AES128-GCM-SHA256", group=None)
    assert " tls TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;" in unfolded(received(tls=tls))
    assert " tls " not in unfolded(received(tls=evolve(TLS, cipher="MADE-UP")))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to ask")
def test_registered_names_are_those_of_openssl() -> None:
    command = ["openssl", "ciphers", "-stdname", "-v", "ALL:eNULL@SECLEVEL=0"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    names = {line.split()[2]: line.split()[0] for line in lines}
    ours = {name: _registered_name(name) for name in names}
    assert {n: r for n, r in ours.items() if r is not None} == {n: names[n] for n, r in ours.items() if r is not None}
    common = [n for n in names if n.startswith(("ECDHE-RSA-AES", "ECDHE-ECDSA-AES", "DHE-RSA-AES", "AES", "TLS_"))]
    assert len(common) > 20
    assert all(ours[n] for n in common)


@given(st.lists(st.text(max_size=2500), max_size=4))
def test_a_field_never_breaks_its_line(clauses: list[str]) -> None:
    raw = field("X-Test", *clauses)
    lines = raw.split(b"\r\n")
    assert lines.pop() == b""
    assert all(len(line) <= 998 for line in lines)
    assert lines[0].startswith(b"X-Test:")
    assert all(line.startswith(b" ") for line in lines[1:])
    assert all(not c < 32 and c != 127 for line in lines for c in line)
    assert message_from_bytes(raw + b"\r\n", policy=policy.compat32).keys() == ["X-Test"]
    for line in lines:
        line.decode("utf-8")


WORDS = st.lists((st.integers(0, 40) | st.integers(70, 90) | st.integers(990, 1000)).map("w".__mul__), max_size=8).map(
    " ".join
)
CLAUSE = st.builds(
    lambda before, length, after: " " * before + "x" * length + " " * after,
    st.integers(0, 1), st.integers(0, 40), st.integers(0, 1),
) | st.text("ab é\r", max_size=30) | WORDS  # fmt: skip


def plain(clauses: tuple[str, ...]) -> bytes | None:
    """Return the field as the quick way folds it; None if it leaves that to the other one."""
    rest = _fold_plain(len("Received:"), clauses)
    return None if rest is None else f"Received:{rest}\r\n".encode()


@given(st.lists(CLAUSE, max_size=6).map(tuple))
def test_the_short_way_of_folding_equals_the_general_way(clauses: tuple[str, ...]) -> None:
    assert plain(clauses) in {None, _fold("Received", clauses)}
    assert field("Received", *clauses) == _fold("Received", clauses)
    if clauses and all(clause.strip() == clause and clause.isascii() and 0 < len(clause) < 70 for clause in clauses):
        assert plain(clauses) is not None or "\r" in "".join(clauses) or "  " in "".join(clauses)


def test_a_line_of_78_octets_is_full() -> None:
    for length in range(90):
        clauses: tuple[str, ...] = ("x" * 30, "y" * length, "z" * 30)
        assert plain(clauses) in {None, _fold("Received", clauses)}
        clauses = ("x" * 30, f"{'a' * 20} {'b' * length} {'c' * 30} {'d' * length} {'e' * 40}")
        assert plain(clauses) in {None, _fold("Received", clauses)}
        assert (plain(clauses) is None) == (length == 0)
    assert b"y\r\n z" in field("X", "x" * 30, "y" * (78 - 34), "z" * 44)


def test_folding_keeps_every_character() -> None:
    clauses = ["word " * 40, "x" * 3000, "é" * 1500, "  two  spaces  "]
    text = field("X", *clauses).decode().replace("\r\n", "")
    assert text.replace(" ", "") == "X:" + "".join(clauses).replace(" ", "")
    assert field("X", "é" * 1500).startswith(b"X:\r\n \xc3\xa9")
    assert field("X", "a" * 77 + " ") == b"X:\r\n " + b"a" * 77 + b" \r\n"  # no blank line at the end
    assert field("X", "a  b") == b"X: a  b\r\n"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (b"From: a\r\nDate: now\r\n", True),
        (b"dAtE: now\r\n", True),
        (b"Date \t: now\r\n", True),
        (b"", False),
        (b"Date\r\n", False),
        (b"Resent-Date: now\r\nDated: x\r\n", False),
        (b"Subject: a\r\n Date: folded\r\n", False),
        (b"Subject: Date: b\r\n", False),
        (b"Dated: x\r\nDate: y\r\n", True),
    ],
)
def test_looking_for_a_field(headers: bytes, expected: bool) -> None:
    assert has_field(headers, b"Date") is expected


@pytest.mark.parametrize("head", [b"From: a\r\n", b"X-Y :b", b"\r\ntext", b"\ntext", b"From joe Mon\r\n", b">From x"])
def test_bodies_that_begin_as_a_header(head: bytes) -> None:
    assert separator(head) == b""


@pytest.mark.parametrize(
    "head", [b"", b"text\r\n", b" verified)\r\n", b"\tx: y", b"two words: x", b": x", b"\xc3\xa4: x"]
)
def test_bodies_that_do_not(head: bytes) -> None:
    assert separator(head) == b"\r\n"


NASTY = st.text('ab.[]:%()\\"; é\r\n\x00\u2028', max_size=40) | st.sampled_from(
    ["a.example", "w" * 80, "w " * 60, "é" * 300]
)


@given(
    helo=NASTY | st.none(),
    peer_address=NASTY | st.none(),
    peer_name=NASTY | st.none(),
    by=st.sampled_from(["mx.example.com", "m" * 70]),
    id=st.sampled_from(["0a-1-1", "0a-1-12345", "i" * 70]),
    recipient=NASTY | st.none() | st.integers(0, 950).map(lambda size: "r" * size + "@example.com"),
    smtputf8=st.booleans(),
    extended=st.booleans(),
    authenticated=st.booleans(),
    tls=st.none()
    | st.builds(
        evolve,
        st.just(TLS),
        client_subject_cn=NASTY | st.none(),
        verify_error=NASTY | st.none(),
        verified=st.booleans(),
        cipher=NASTY | NASTY.map("TLS_".__add__) | st.sampled_from(["AES128-SHA", "TLS_%s", "TLS_" + "x" * 80]),
        group=NASTY | st.none(),
        client_certificate=st.sampled_from([None, b"x"]),
    ),
)
def test_a_trace_field_from_the_caches_equals_one_folded_the_general_way(**given: Any) -> None:
    first = received_field(moment=MOMENT, **given)
    assert received_field(moment=MOMENT, **given) == first  # out of the caches
    trace._start.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_rest_form", lambda *_: None)
        assert received_field(moment=MOMENT, **given) == first
        patch.setattr(trace, "_fold_plain", lambda *_: None)
        assert received_field(moment=MOMENT, **given) == first
    trace._start.cache_clear()
