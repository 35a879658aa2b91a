"""Dovecot's authentication protocol: its lines, in the form of Dovecot 2.3, and what a hostile service may send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.auth.dovecot_codec import (
    MAX_LINE,
    MAX_MECHANISMS,
    Continued,
    DovecotCodec,
    DovecotError,
    Failed,
    ServiceAnswer,
    Succeeded,
)

HANDSHAKE = (
    b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tSCRAM-SHA-256\tmutual-auth\nMECH\tANONYMOUS\tanonymous\n"
    b"SPID\t2945\nCUID\t1\nCOOKIE\ta0625725088a423cf8f09dc19ce228a0\nDONE\n"
)


def ready(requests: int = 1) -> DovecotCodec:
    codec = DovecotCodec()
    assert codec.receive_data(HANDSHAKE) == []
    for _ in range(requests):
        codec.begin("PLAIN", (), None)
    return codec


def answer(line: bytes) -> ServiceAnswer:
    [(number, found)] = ready().receive_data(line + b"\n")
    assert number == 1
    return found


def test_the_handshake_names_the_mechanisms_and_what_they_are() -> None:
    codec = DovecotCodec()
    for octet in HANDSHAKE[:-1]:
        codec.receive_data(bytes([octet]))
        assert not codec.is_ready
    codec.receive_data(HANDSHAKE[-1:])
    assert codec.is_ready
    assert dict(codec.mechanisms) == {
        "PLAIN": {"plaintext"},
        "SCRAM-SHA-256": {"mutual-auth"},
        "ANONYMOUS": {"anonymous"},
    }


def test_each_client_greets_with_a_number_of_its_own() -> None:
    one, other = DovecotCodec().greeting(), DovecotCodec().greeting()
    assert one.startswith(b"VERSION\t1\t2\nCPID\t")
    assert one != other


@pytest.mark.parametrize(
    "lines",
    [
        b"VERSION\t2\t0\n",
        b"HELLO\n",
        b"VERSION\t1\n",
        b"VERSION\t1\t2\nMECH\n",
        b"VERSION\t1\t2\nMECH\tlower\n",
        b"VERSION\t1\t2\nMECH\t" + b"A" * 21 + b"\n",
        b"VERSION\t1\t2\n" + b"".join(b"MECH\tM%d\n" % number for number in range(MAX_MECHANISMS + 1)),
        b"VERSION\t1\t2\n" + b"NEW\n" * 256,
        b"VERSION\t1\t2\n" + b"x" * (MAX_LINE + 1),
        b"VERSION\t1\t2\n" + b"x" * (MAX_LINE + 1) + b"\nDONE\n",
    ],
)
def test_a_handshake_of_another_protocol_or_beyond_the_bounds_is_an_error(lines: bytes) -> None:
    with pytest.raises(DovecotError):
        DovecotCodec().receive_data(lines)


def test_requests_have_the_form_that_dovecot_reads() -> None:
    codec = ready(0)
    attributes = ("service=smtp", "secured=tls")
    assert codec.begin("PLAIN", attributes, b"\0joe\0x") == (
        1, b"AUTH\t1\tPLAIN\tservice=smtp\tsecured=tls\tresp=AGpvZQB4\n",
    )  # fmt: skip
    assert codec.begin("LOGIN", (), None) == (2, b"AUTH\t2\tLOGIN\n")
    assert codec.begin("EXTERNAL", (), b"") == (3, b"AUTH\t3\tEXTERNAL\tresp==\n")  # empty is not none
    assert codec.proceed(2, b"joe") == b"CONT\t2\tam9l\n"
    assert codec.proceed(2, b"") == b"CONT\t2\t\n"
    assert codec.cancel(2) == b"CANCEL\t2\n"


@given(st.text(max_size=200))
def test_no_attribute_adds_another_one_or_a_line(text: str) -> None:
    _, line = DovecotCodec().begin("PLAIN", (f"cert_username={text}", "service=smtp"), None)
    assert line.count(b"\n") == 1
    assert line.split(b"\t")[4:] == [b"service=smtp\n"]
    assert b"\0" not in line
    assert b"\r" not in line


def test_a_request_that_is_too_long_is_an_error() -> None:
    with pytest.raises(DovecotError, match="above 16384"):
        ready().proceed(1, b"x" * MAX_LINE)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"CONT\t1\tVXNlcm5hbWU6", Continued(b"Username:")),
        (b"CONT\t1\t", Continued(b"")),
        (b"CONT\t1", Continued(b"")),
        (b"OK\t1\tuser=joe", Succeeded("joe")),
        (b"OK\t1\tuser=j\xc3\xb6e\tresp=AAA=", Succeeded("j\u00f6e")),
        (b"FAIL\t1\tuser=joe", Failed("joe", "refused by Dovecot")),
        (b"FAIL\t1\treason=a\x01tb\tuser=x\x01ny", Failed("", "a\tb")),
        (b"FAIL\t1\tuser=joe\tcode=user_disabled", Failed("joe", "user_disabled")),
        (b"FAIL\t1\tuser=joe\tcode=temp_fail", Failed("joe", "temp_fail", is_temporary=True)),
        (b"FAIL\t1\ttemp", Failed("", "temporary failure", is_temporary=True)),
        (b"FAIL\t1\treason=" + b"x" * 300, Failed("", "x" * 200)),
    ],
)
def test_answers(line: bytes, expected: ServiceAnswer) -> None:
    assert answer(line) == expected


@pytest.mark.parametrize("denial", [b"nologin", b"nologin=", b"nologin=y", b"proxy\thost=192.0.2.1"])
def test_right_credentials_of_a_user_who_must_not_be_let_in_are_a_failure(denial: bytes) -> None:
    found = answer(b"OK\t1\tuser=joe\t" + denial)
    assert isinstance(found, Failed)
    assert (found.user, found.is_temporary) == ("joe", False)


@pytest.mark.parametrize("line", [b"OK\t1", b"OK\t1\tuser=", b"OK\t1\tuser=a\x01nb", b"OK\t1\tuser=" + b"x" * 513])
def test_nobody_is_authenticated_without_a_usable_name(line: bytes) -> None:
    found = answer(line)
    assert isinstance(found, Failed)
    assert found.is_temporary


@pytest.mark.parametrize(
    "line", [b"OK\t2\tuser=joe", b"OK\t0", b"OK\t-1", b"OK", b"OK\tx", b"FAIL\t99999999999", b"CONT\t1\t*"]
)
def test_an_answer_to_no_request_or_without_base64_is_an_error(line: bytes) -> None:
    with pytest.raises(DovecotError):
        answer(line)


def test_answers_come_in_any_order_and_unknown_commands_are_skipped() -> None:
    codec = ready(3)
    answers = codec.receive_data(b"FAIL\t3\nSHUTDOWN\tnow\nOK\t1\tuser=joe\nCONT\t2\t\nOK\t")
    assert [number for number, _ in answers] == [3, 1, 2]
    assert codec.receive_data(b"2\tuser=x\n") == [(2, Succeeded("x"))]


def test_a_line_without_an_end_is_an_error_at_its_bound() -> None:
    codec = ready()
    codec.receive_data(b"x" * MAX_LINE)
    with pytest.raises(DovecotError, match="above 16384"):
        codec.receive_data(b"x")
    codec = ready()
    with pytest.raises(DovecotError, match="above 16384"):
        codec.receive_data(b"FAIL\t1\t" + b"x" * MAX_LINE + b"\n")


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_octets_are_answers_or_an_error_of_the_protocol(pieces: list[bytes]) -> None:
    codec = ready()
    try:
        for piece in pieces:
            codec.receive_data(piece)
    except DovecotError:
        return
