"""``base64``, ``qp``, ``idn``, ``json``, ``msys.parseRFC2822Addresses``: small functions of one value."""

from collections.abc import Callable
from typing import Any, Final

from triosmtp.lua.api import text_codecs
from triosmtp.lua.api.access import Callout, text
from triosmtp.lua.api.mailbox_list import component, read_mailboxes
from triosmtp.lua.api.text_codecs import CodecError
from triosmtp.lua.conversion import lua_dict
from triosmtp.lua.host import HostTable, ScriptError

__all__ = ["TABLE", "components_of"]

TABLE = HostTable()

_MAX_DEPTH: Final = 64
_JSON_ERROR: Final = 4


def _codec(function: Callable[[bytes], bytes]) -> Callable[[Callout, bytes], Any]:
    def called(_callout: Callout, data: bytes) -> Any:
        try:
            return function(data)
        except CodecError as error:
            return None, str(error)

    return called


for _name, _function in {
    "base64.encode": text_codecs.encode_base64,
    "base64.decode": text_codecs.decode_base64,
    "qp.encode": text_codecs.encode_qp,
    "qp.decode": text_codecs.decode_qp,
}.items():
    for _path in (_name, f"msys.{_name}"):
        TABLE.function(_path, "s", state="should")(_codec(_function))


def _named(function: Callable[[str], str]) -> Callable[[bytes], bytes]:
    return lambda name: function(name.decode("utf-8", "replace")).encode("utf-8")


for _path in ("idn.to_idn", "msys.idn.to_idn"):
    TABLE.function(_path, "s", state="should")(_codec(_named(text_codecs.to_idn)))
for _path in ("idn.to_utf8", "msys.idn.to_utf8"):
    TABLE.function(_path, "s", state="should")(_codec(_named(text_codecs.to_utf8)))


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a value of Lua as JSON has it: a table with the keys 1, 2, … is an array.

    :raises ScriptError: if it is too deep, or has another key.
    """
    if type(value).__name__ != "_LuaTable":
        return value
    if depth > _MAX_DEPTH:
        raise ScriptError("the table is too deep")
    items = {key: _plain(each, depth + 1) for key, each in lua_dict(value).items()}
    if not all(isinstance(key, bytes | int | float) and not isinstance(key, bool) for key in items):
        raise ScriptError("a key of JSON is a string")
    if items and set(items) == set(range(1, len(items) + 1)):
        return [items[key] for key in range(1, len(items) + 1)]
    return items


@TABLE.function("json.encode", "a", state="should")
def _json_encode(_callout: Callout, value: Any) -> Any:
    try:
        return text_codecs.encode_json(_plain(value))
    except CodecError as error:
        raise ScriptError(str(error)) from None


@TABLE.function("json.decode", "s", state="should")
def _json_decode(_callout: Callout, data: bytes) -> Any:
    try:
        return text_codecs.decode_json(data)
    except CodecError as error:
        return None, _JSON_ERROR, str(error)


@TABLE.function("json.new", "", state="should")
def _json_new(_callout: Callout) -> Any:
    return {}


@TABLE.function("json.strerror", "a", state="should")
def _json_strerror(_callout: Callout, code: Any) -> str:
    return "malformed JSON" if code == _JSON_ERROR else "success"


def components_of(value: str, name: bytes | None) -> list[str]:
    """Return a component of each address of a list.

    :raises ScriptError: if there is no such component.
    """
    try:
        return [component(each, text(name or b"all")) for each in read_mailboxes(value)]
    except ValueError as error:
        raise ScriptError(str(error)) from None


@TABLE.function("msys.parseRFC2822Addresses", "ss?", state="should")
def _parse_addresses(_callout: Callout, value: bytes, name: bytes | None) -> list[str]:
    return components_of(text(value), name)
