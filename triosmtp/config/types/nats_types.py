"""The types of options of nodes: the name of a node, and where events are published."""

import re

from triosmtp.config.parser import Value
from triosmtp.config.types.option_type import BadValueError, OptionType, Warn, bad_value, quote, text_of
from triosmtp.config.types.target_url import TargetAddress, parse_events_address

__all__ = ["NATS_SUBJECT", "NODE_NAME"]

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
