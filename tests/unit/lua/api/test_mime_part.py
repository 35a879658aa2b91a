"""The parts of a message."""

import pytest

from triosmtp.lua.api.mime_part import MAX_PARTS, read_parts, text_parts

MESSAGE = b"""Subject: =?utf-8?q?caf=C3=A9?=
Content-Type: multipart/mixed; boundary="=_a b"

preamble
--=_a b
Content-Type: multipart/alternative;
 boundary=inner

--inner
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

caf=E9
--inner
Content-Type: TEXT/HTML; charset="utf-8"
Content-Transfer-Encoding: BASE64

PGI+
aGk8L2I+
--inner--
--=_a b
Content-Type: application/pdf; name=old.pdf
Content-Disposition: attachment; filename*0*=utf-8''caf%C3%A9; filename*1=".pdf"

%PDF
--=_a b
Content-Type: message/rfc822

Subject: inner

forwarded
--=_a b--
epilogue
""".replace(b"\n", b"\r\n")


def test_parts_come_in_their_order() -> None:
    parts = read_parts(MESSAGE)
    assert [part.content_type().mimetype for part in parts] == [
        "multipart/mixed", "multipart/alternative", "text/plain", "text/html", "application/pdf", "message/rfc822",
        "text/plain",
    ]  # fmt: skip
    assert [part.content for part in parts[2:5]] == [b"caf=E9", b"PGI+\r\naGk8L2I+", b"%PDF"]
    assert parts[0].header(b"subject") == ["café".encode()]
    assert parts[6].header(b"SUBJECT") == [b"inner"]
    assert parts[6].header(b"X") == []


def test_a_content_type_has_its_parameters() -> None:
    parts = read_parts(MESSAGE)
    plain, html, pdf = parts[2].content_type(), parts[3].content_type(), parts[4].content_type()
    assert (plain.charset, plain.encoding, plain.is_attachment) == ("iso-8859-1", "quoted-printable", False)
    assert (html.charset, html.encoding, html.filename) == ("utf-8", "base64", "")
    assert (pdf.is_attachment, pdf.filename, pdf.charset) == (True, "café.pdf", "us-ascii")
    (bare,) = read_parts(b"\r\nx")
    assert (bare.content_type().mimetype, bare.content_type().encoding) == ("text/plain", "7bit")


def test_text_is_decoded() -> None:
    assert text_parts(MESSAGE) == ["café", "<b>hi</b>", "forwarded"]
    assert text_parts(b"A: b\r\n\r\nhello\r\n") == ["hello\r\n"]


@pytest.mark.parametrize("end", [b"", b"--b", b"--b\r\nA: c"])
def test_a_message_that_ends_early_has_the_parts_so_far(end: bytes) -> None:
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n" + end
    assert [part.content for part in read_parts(message)][1].rstrip() == b"one"


def test_parts_and_their_depth_are_bounded() -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    assert len(read_parts(head + b"--b\r\n\r\nx\r\n" * 5000)) == MAX_PARTS
    assert len(read_parts((b"Content-Type: message/rfc822\r\n\r\n") * 100)) == 17


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "unknown"])
def test_broken_encodings_are_no_error(encoding: str) -> None:
    head = f"Content-Type: text/plain; charset=none\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    assert len(text_parts(head + b"=ZZ\xff!A")) == 1
