"""The strict reader of DER: it reads what has one reading, and refuses all else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.x509.der import INTEGER, OCTET_STRING, SEQUENCE, Element, element, elements, sole_content


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65_535, 65_536])
def test_what_is_written_is_read(size: int) -> None:
    encoded = element(OCTET_STRING, bytes(size))
    assert list(elements(encoded * 2)) == [Element(OCTET_STRING, bytes(size), encoded)] * 2
    assert sole_content(encoded, OCTET_STRING) == bytes(size)


def test_elements_inside_of_others() -> None:
    inner = element(INTEGER, b"\1"), element(OCTET_STRING, b"x")
    assert [each.encoded for each in elements(sole_content(element(SEQUENCE, *inner)))] == list(inner)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x04", "cut off"),
        (b"\x04\x02x", "cut off"),
        (b"\x3f\x10\x01x", "high-tag-number"),
        (b"\x1f\x81\x01\x01x", "high-tag-number"),
        (b"\x04\x80x\0\0", "definite length"),
        (b"\x04\x85\0\0\0\0\1x", "definite length"),
        (b"\x04\x82\1", "definite length"),
        (b"\x04\x81\x7f" + bytes(127), "shortest form"),
        (b"\x04\x82\x00\x80" + bytes(128), "shortest form"),
        (b"\x04\x81\x80" + bytes(127), "cut off"),
    ],
)
def test_what_is_not_der(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        list(elements(data))


def test_one_element_of_one_kind() -> None:
    for data in (b"", element(SEQUENCE) * 2, element(SEQUENCE) + b"\0", element(OCTET_STRING)):
        with pytest.raises(ValueError, match=r"unpack|cut off|expected"):
            sole_content(data)


@given(st.binary(max_size=40))
def test_any_octets(data: bytes) -> None:
    """Octets that are accepted are encoded again to the same."""
    try:
        found = list(elements(data))
    except ValueError:
        return
    assert b"".join(element(each.tag, each.content) for each in found) == data
