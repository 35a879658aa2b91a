"""Codecs of scripts."""

import pytest

from triosmtp.lua.api import text_codecs as codecs
from triosmtp.lua.api.text_codecs import CodecError


def test_base64_and_quoted_printable_round_trip() -> None:
    data = bytes(range(256)) * 2
    assert codecs.decode_base64(codecs.encode_base64(data)) == data
    assert b"\n" not in codecs.encode_base64(data)
    assert codecs.decode_qp(codecs.encode_qp(data)) == data
    assert codecs.encode_qp("é=".encode()) == b"=C3=A9=3D"
    assert codecs.decode_base64(b"aGk=\n") == b"hi"
    with pytest.raises(CodecError):
        codecs.decode_base64(b"a")


def test_names_have_two_forms() -> None:
    assert codecs.to_idn("bücher.example") == "xn--bcher-kva.example"
    assert codecs.to_utf8("xn--bcher-kva.example") == "bücher.example"
    assert codecs.to_idn("plain_name.example") == "plain_name.example"
    for function, name in ((codecs.to_idn, "a b é"), (codecs.to_utf8, "xn--a"), (codecs.to_idn, "é" * 5000)):
        with pytest.raises(CodecError):
            function(name)


def test_json_is_decoded_and_encoded() -> None:
    value = codecs.decode_json('{"a": [1, 2.5, true, null, "é"]}'.encode())
    assert value == {"a": [1, 2.5, True, None, "é"]}
    assert codecs.encode_json({b"a": [1.0, 2.5, False, None, "é".encode()], 1.0: {}}) == (
        b'{"a":[1,2.5,false,null,"\\u00e9"],"1":{}}'
    )


@pytest.mark.parametrize("text", [b"{", b"", b"[" * 100_000, b'"' + b"x" * 2_000_000 + b'"'])
def test_json_that_is_malformed_or_too_large_is_an_error(text: bytes) -> None:
    with pytest.raises(CodecError):
        codecs.decode_json(text)


def test_what_json_cannot_have_is_an_error() -> None:
    deep: list[object] = []
    for _ in range(100):
        deep = [deep]
    for value in (deep, object()):
        with pytest.raises(CodecError):
            codecs.encode_json(value)
