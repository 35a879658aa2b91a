"""The types of options of nodes: the name of a node, and where events are published."""

import re

from triosmtp.config.parser import Value
from triosmtp.config.types.option_type import BadValueError, OptionType, Warn, bad_value, quote, text_of
from triosmtp.config.types.target_url import TargetAddress, is_subject, parse_events_address

__all__ = ["JETSTREAM_NAME", "NATS_SUBJECT", "NODE_NAME", "SUBJECT"]

_NODE_NAME = re.compile(r"[A-Za-z0-9-]{1,32}").fullmatch
_NODE_FORM = "1 to 32 characters of A-Z, a-z, 0-9 and -"


def _read_node_name(value: Value, _warn: Warn) -> str:
    text = text_of(value, _NODE_FORM)
    if not _NODE_NAME(text):
        raise bad_value(value, _NODE_FORM)
    return text


NODE_NAME = OptionType("name of a node", _read_node_name, lambda value: quote(str(value)))


def _read_nats_subject(value: Value, _warn: Warn) -> TargetAddress:
    text = text_of(value, "nats://host[:port],…/subject")
    try:
        return parse_events_address(text)
    except ValueError as error:
        raise BadValueError(value.place, str(error)) from None


NATS_SUBJECT = OptionType("subject of NATS", _read_nats_subject, lambda value: quote(str(value)))


_JETSTREAM_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_JETSTREAM_FORM = "1 to 64 characters of A-Z, a-z, 0-9, _ and -"


def _read_jetstream_name(value: Value, _warn: Warn) -> str:
    text = text_of(value, _JETSTREAM_FORM)
    if not _JETSTREAM_NAME(text):
        raise bad_value(value, _JETSTREAM_FORM)
    return text


JETSTREAM_NAME = OptionType("name in JetStream", _read_jetstream_name, lambda value: quote(str(value)))


def _read_subject(value: Value, _warn: Warn) -> str:
    text = text_of(value, "a subject without wildcards")
    if not is_subject(text):
        raise bad_value(value, "a subject without wildcards")
    return text


SUBJECT = OptionType("subject", _read_subject, lambda value: quote(str(value)))
