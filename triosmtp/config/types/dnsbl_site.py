"""The sites of DNSBL_Sites, in the words of Postfix's postscreen_dnsbl_sites: ``zen.example=127.0.0.[2..11]*3``."""

import re
from typing import Final

from attrs import frozen

from triosmtp.config.parser import Value
from triosmtp.config.types.option_type import BadValueError, OptionType, Warn, list_of, quote, text_of
from triosmtp.domain import DomainError, domain_key

__all__ = ["ALLOW_THRESHOLD", "DNSBL_SITES", "AddressFilter", "DNSBLSite"]

_SITE = re.compile(r"([^=*]+)(?:=([^=*]+))?(?:\*([+-]?[0-9]{1,4}))?").fullmatch
_PARTS = re.compile(r"\[[^\]]*\]|[0-9]+").findall
_FILTER = re.compile(r"(?:\[[0-9.;]+\]|[0-9]{1,3})(?:\.(?:\[[0-9.;]+\]|[0-9]{1,3})){3}").fullmatch
_RANGE = re.compile(r"([0-9]{1,3})(?:\.\.([0-9]{1,3}))?").fullmatch
_EXPECTED: Final = "a site as zen.example, zen.example=127.0.0.[2..11] or zen.example=127.0.0.4*3"


@frozen(slots=True)
class AddressFilter:
    """A pattern of addresses: for each octet, the ranges in which it may be."""

    octets: tuple[tuple[tuple[int, int], ...], ...]

    def __contains__(self, packed: bytes) -> bool:
        return all(
            any(low <= octet <= high for low, high in ranges) for octet, ranges in zip(packed, self.octets, strict=True)
        )

    def __str__(self) -> str:
        return ".".join(map(_write_ranges, self.octets))


@frozen(slots=True)
class DNSBLSite:
    """A list in the DNS: its domain, the answers that count (None: all), and the weight of a listing."""

    domain: str
    answers: AddressFilter | None = None
    weight: int = 1

    def __str__(self) -> str:
        answers = "" if self.answers is None else f"={self.answers}"
        return f"{self.domain}{answers}{'' if self.weight == 1 else f'*{self.weight}'}"


def _write_ranges(ranges: tuple[tuple[int, int], ...]) -> str:
    parts = [str(low) if low == high else f"{low}..{high}" for low, high in ranges]
    return parts[0] if len(parts) == 1 and ".." not in parts[0] else f"[{';'.join(parts)}]"


def _parse_filter(text: str) -> AddressFilter:
    if _FILTER(text) is None:
        raise ValueError("the answer is an address of four octets, each a number or as [2..11] or [2;4..6]")
    return AddressFilter(tuple(_parse_octet(part) for part in _PARTS(text)))


def _parse_octet(text: str) -> tuple[tuple[int, int], ...]:
    ranges = []
    for part in text.strip("[]").split(";"):
        match = _RANGE(part)
        low, high = (-1, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not 0 <= low <= high <= 255:
            raise ValueError(f"{part} is no octet, and no range of octets")
        ranges.append((low, high))
    return tuple(ranges)


def _parse(text: str) -> DNSBLSite:
    match = _SITE(text)
    if match is None:
        raise ValueError("")
    try:
        domain = domain_key(match[1])
    except DomainError as error:
        raise ValueError(str(error)) from None
    answers = None if match[2] is None else _parse_filter(match[2])
    return DNSBLSite(domain, answers, int(match[3] or 1))


def _read(value: Value, _warn: Warn) -> DNSBLSite:
    text = text_of(value, _EXPECTED)
    try:
        return _parse(text)
    except ValueError as error:
        reason = f": {error}" if str(error) else ""
        raise BadValueError(value.place, f"expected {_EXPECTED}, found {quote(text)}{reason}") from None


def _write(value: object) -> str:
    return quote(str(value))


def _read_threshold(value: Value, _warn: Warn) -> int:
    text = text_of(value, "a whole number, 0 or less")
    if re.fullmatch(r"0|-[0-9]{1,6}", text) is None:
        raise BadValueError(value.place, f"expected a whole number, 0 or less, found {quote(text)}")
    return int(text)


ALLOW_THRESHOLD = OptionType("whole number, 0 or less", _read_threshold, str)
DNSBL_SITES: OptionType[tuple[DNSBLSite, ...]] = list_of(
    OptionType("site of a list in the DNS", _read, _write), "list of sites"
)
