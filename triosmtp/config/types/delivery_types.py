"""The types of options of delivery: targets, fingerprints of their certificates, addresses of monitors."""

import re
from typing import Final

from triosmtp.config.parser import Value
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.types.option_type import TEXT, BadValueError, OptionType, Warn, list_of, quote, text_of
from triosmtp.config.types.target_address import SCHEMES, expected_targets, is_delivery_name, parse_target
from triosmtp.config.types.tls_types import FINGERPRINT, RelayClient

__all__ = ["DELIVERY_NAME", "FINGERPRINTS", "MONITORS", "TARGETS"]


def _read_target(value: Value, _warn: Warn) -> str:
    text = text_of(value, expected_targets())
    if is_delivery_name(text):
        return text
    try:
        return str(parse_target(text, value.place.source.folder))
    except ValueError as error:
        scheme = text.partition(":")[0].lower()
        close = "" if scheme in SCHEMES else suggest(nearest(f"{scheme}:", [f"{each}:" for each in SCHEMES]))
        raise BadValueError(value.place, f"{error}{close}") from None


_TARGET_LIST: Final = list_of(OptionType("target", _read_target, TEXT.write), "target, or list of targets")


def _write_targets(value: object) -> str:
    if not isinstance(value, tuple):
        raise TypeError(f"not a tuple: {value!r}")
    return TEXT.write(value[0]) if len(value) == 1 else _TARGET_LIST.write(value) if value else "unset"


def _read_targets(value: Value, warn: Warn) -> tuple[str, ...]:
    found = _TARGET_LIST.read(value, warn)
    if not found:
        raise BadValueError(value.place, f"expected {expected_targets()}, found an empty list")
    doubled = next((each for each in found if found.count(each) > 1), None)
    if doubled is not None:
        raise BadValueError(value.place, f"{quote(doubled)} stands in the list twice")
    return found


def _read_delivery_name(value: Value, _warn: Warn) -> str:
    expected = "the name of a Delivery"
    text = text_of(value, expected)
    if not is_delivery_name(text):
        raise BadValueError(value.place, f"expected {expected}, found {quote(text)}")
    return text


DELIVERY_NAME = OptionType("name of a Delivery", _read_delivery_name, TEXT.write)

TARGETS: OptionType[tuple[str, ...]] = OptionType(_TARGET_LIST.name, _read_targets, _write_targets)
"""Addresses in their full form, and names of Delivery scopes."""

FINGERPRINTS: OptionType[tuple[RelayClient, ...]] = list_of(FINGERPRINT, "list of fingerprints")

_MONITOR: Final = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}").fullmatch


def _read_monitor(value: Value, _warn: Warn) -> str:
    expected = "http://host:port of a monitoring port"
    text = text_of(value, expected)
    if _MONITOR(text) is None:
        raise BadValueError(value.place, f"expected {expected}")
    return text


MONITORS: OptionType[tuple[str, ...]] = list_of(
    OptionType("address of a monitoring port", _read_monitor, TEXT.write), "list of addresses"
)
