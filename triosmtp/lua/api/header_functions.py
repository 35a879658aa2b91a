"""``msg:header`` and ``msg:address_header``: the fields of a message, and their changes."""

from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from triosmtp.lua.api.access import Callout, edits_of, message_of, text
from triosmtp.lua.api.codec_functions import components_of
from triosmtp.lua.api.header_text import decode_value, encode_value, unfold
from triosmtp.lua.conversion import lua_list, text_of
from triosmtp.lua.host import HostObject, HostTable, ScriptError
from triosmtp.message.header_edits import EditError, Header, HeaderField, parse_header, read_header
from triosmtp.message.spool import Body, SpoolError

__all__ = ["TABLE", "fields_of", "header_of"]

TABLE = HostTable()

_SMALL: Final = 16 * 1024  # octets of a message whose header is read on the event loop
_MAX_VALUES: Final = 100
_MODES: Final = (b"replace", b"append", b"prepend")

_headers: WeakKeyDictionary[Body, Header] = WeakKeyDictionary()


async def header_of(body: Body) -> Header:
    """Return the header of a message as it was received.

    :raises ScriptError: if it is too long, or cannot be read.
    """
    found = _known_header(body)
    if found is None:
        try:
            found = _headers[body] = await read_header(body)
        except (EditError, SpoolError) as error:
            raise ScriptError(str(error)) from None
    return found


def _known_header(body: Body) -> Header | None:
    """Return the header if that needs no waiting."""
    found = _headers.get(body)
    if found is None and body.size <= _SMALL:
        try:
            found = _headers[body] = parse_header(body.head, complete=True)
        except EditError as error:
            raise ScriptError(str(error)) from None
    return found


async def fields_of(callout: Callout) -> Sequence[HeaderField]:
    """Return the fields of the message with the changes of the scripts."""
    return _edited(callout, await header_of(message_of(callout).body))


def _edited(callout: Callout, header: Header) -> Sequence[HeaderField]:
    edits = edits_of(callout)
    return edits.edited(header.fields) if edits else header.fields


def _values(fields: Sequence[HeaderField], name: bytes) -> list[bytes]:
    lower = name.lower()
    return [decode_value(unfold(each.value)) for each in fields if each.is_named(lower)]


def _read(callout: Callout, name: bytes) -> Any:
    header = _known_header(message_of(callout).body)
    return _read_later(callout, name) if header is None else _values(_edited(callout, header), name)


async def _read_later(callout: Callout, name: bytes) -> list[bytes]:
    return _values(await fields_of(callout), name)


@TABLE.function("msg:header", "sas?", waits=True)
def _header(callout: Callout, _msg: HostObject, name: bytes, value: Any, mode: bytes | None) -> Any:
    if value is None:
        return [] if callout.message is None else _read(callout, name)
    return _write(callout, name, value, mode or b"replace")


def _write(callout: Callout, name: bytes, value: Any, mode: bytes) -> bool:
    message_of(callout)
    if mode not in _MODES:
        raise ScriptError("a header is set with replace, append or prepend")
    is_table = type(value).__name__ == "_LuaTable"
    values = [text_of(each) for each in (lua_list(value, _MAX_VALUES) if is_table else [value])]
    if any(b"\r" in each or b"\n" in each for each in values):
        raise ScriptError(f"the value of the header {text(name)!r} has a line end")
    values, edits = [encode_value(each) for each in values if each], edits_of(callout)
    try:
        if mode == b"replace" or not values:
            edits.delete(name)
        for each in reversed(values) if mode == b"prepend" else values:
            (edits.prepend if mode == b"prepend" else edits.append)(name, each)
    except EditError as error:
        raise ScriptError(str(error)) from None
    return True


@TABLE.function("msg:address_header", "ss?", state="should", waits=True)
async def _address_header(callout: Callout, _msg: HostObject, name: bytes, part: bytes | None) -> list[str]:
    if callout.message is None:
        return []
    fields, lower = await fields_of(callout), name.lower()
    values = b", ".join(unfold(each.value) for each in fields if each.is_named(lower))
    return components_of(text(values), part)
