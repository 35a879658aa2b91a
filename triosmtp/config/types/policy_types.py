"""The types of options of policy: Pathway, policies, fallbacks, filters, recipient files."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from triosmtp.config.parser import Dictionary, Items, Value
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.types.filter_address import is_filter_name, parse_filter_address
from triosmtp.config.types.option_type import (
    TEXT,
    VARIABLES,
    BadValueError,
    OptionType,
    Warn,
    choice,
    list_of,
    quote,
    text_of,
)
from triosmtp.config.types.policy_grammar import ADDRESS_SCHEMES, POLICY_FORMS, forms_of
from triosmtp.config.types.rspamd_address import parse_rspamd_address

__all__ = [
    "CONNECT_TO", "FALLBACK_PHASES", "FILTER_PHASES", "PATHWAY", "POLICIES", "RECIPIENT_FILES",
]  # fmt: skip

# Pathway


def _read_pathway(value: Value, _warn: Warn) -> str:
    text = text_of(value, "the name of a Pathway")
    if not text:
        raise BadValueError(value.place, 'expected the name of a Pathway, found ""')
    return text


PATHWAY = OptionType("name of a Pathway", _read_pathway, TEXT.write)

# Policies

_POLICY = forms_of()


def _read_policies(value: Value, warn: Warn) -> tuple[str, ...]:
    return tuple(_read_policy(each, warn) for each in (value.values if isinstance(value, Items) else (value,)))


def _read_policy(value: Value, warn: Warn) -> str:
    text = text_of(value, _POLICY)
    scheme, _, rest = text.partition(":")
    if scheme in ADDRESS_SCHEMES:
        return _read_address(text, value, warn)
    if text == "lua" or (scheme in {"websocket", "filter"} and is_filter_name(rest)):
        return text
    if scheme != "python" or not _is_object(rest):
        close = "" if scheme in POLICY_FORMS else suggest(nearest(scheme, POLICY_FORMS))
        raise BadValueError(value.place, f"expected {_POLICY}, found {quote(text)}{close}")
    return text


def _read_address(text: str, value: Value, warn: Warn) -> str:
    try:
        if text.startswith("rspamd:"):
            address = parse_rspamd_address(text)
            if address.is_readable:
                warn(value.place, f"the messages for {address} are not encrypted on their way: use https")
            return str(address)
        return str(parse_filter_address(text, value.place.source.folder))
    except ValueError as error:
        raise BadValueError(value.place, str(error)) from None


def _is_object(text: str) -> bool:
    """Return whether ``text`` has the form ``package.module:Name``."""
    module, _, name = text.partition(":")
    return all(map(str.isidentifier, [*module.split("."), *name.split(".")]))


POLICIES: OptionType[tuple[str, ...]] = OptionType(
    "list of policies", _read_policies, list_of(TEXT, "list of policies").write
)

_PHASES = (
    "connect", "ehlo", "starttls", "auth", "mailfrom", "rcptto", "data", "data_spool", "data_spool_each_rcpt",
)  # fmt: skip
_FALLBACK: OptionType[Literal["tempfail", "continue", "reject"]] = choice(("tempfail", "continue", "reject"))


def _read_fallback_phases(value: Value, warn: Warn) -> Mapping[str, Literal["tempfail", "continue", "reject"]]:
    if not isinstance(value, Dictionary):
        raise BadValueError(value.place, "expected a dictionary: [ phase = fallback … ]")
    found: dict[str, Literal["tempfail", "continue", "reject"]] = {}
    for key, each in value.entries:
        phase = key.text.lower()
        if phase not in _PHASES:
            close = suggest(nearest(phase, _PHASES))
            raise BadValueError(key.place, f"expected a phase ({', '.join(_PHASES)}), found {quote(key.text)}{close}")
        found[phase] = _FALLBACK.read(each, warn)
    return MappingProxyType(found)


FALLBACK_PHASES = OptionType("dictionary of fallbacks", _read_fallback_phases, VARIABLES.write)

# Filters

_FILTER_PHASES = ("connect", "ehlo", "mailfrom", "rcptto", "data", "data_spool")


def _read_connect_to(value: Value, warn: Warn) -> str:
    return _read_address(text_of(value, "the address of a filter"), value, warn)


def _read_filter_phases(value: Value, _warn: Warn) -> tuple[str, ...]:
    found = []
    for each in value.values if isinstance(value, Items) else (value,):
        text = text_of(each, "a phase")
        phase = text.lower()
        if phase not in _FILTER_PHASES:
            close = suggest(nearest(phase, _FILTER_PHASES))
            raise BadValueError(
                each.place, f"expected phases of {', '.join(_FILTER_PHASES)}, found {quote(text)}{close}"
            )
        found.append(phase)
    if not found:
        raise BadValueError(value.place, f"expected phases of {', '.join(_FILTER_PHASES)}, found an empty list")
    return tuple(dict.fromkeys(found))


CONNECT_TO = OptionType("address of a filter", _read_connect_to, TEXT.write)
FILTER_PHASES: OptionType[tuple[str, ...]] = OptionType(
    "list of phases", _read_filter_phases, list_of(TEXT, "list of phases").write
)

# Files of recipients


def _read_recipient_file(value: Value, _warn: Warn) -> Path:
    expected = "file:/path"
    text = text_of(value, expected)
    scheme, colon, path = text.partition(":")
    if path.startswith("///"):  # as in a URI
        path = path[2:]
    if not colon or scheme.lower() != "file" or not path.strip("/"):
        raise BadValueError(value.place, f"expected {expected}, found {quote(text)}")
    folder = value.place.source.folder
    return Path(path) if folder is None else folder / path


RECIPIENT_FILES: OptionType[tuple[Path, ...]] = list_of(
    OptionType("file of recipients", _read_recipient_file, lambda value: quote(f"file:{value}")), "list of files"
)
