"""``msys.core.string_new()``: strings that a function fills."""

from triosmtp.lua.api.access import Callout
from triosmtp.lua.host import HostObject, HostTable

__all__ = ["TABLE", "ECString"]

TABLE = HostTable()


class ECString(HostObject):
    """A string that functions can change: ``tostring(s)``, ``#s`` and ``s.buffer`` are its value."""

    lua_class = "ec_string"

    def __init__(self, value: bytes = b"") -> None:
        self.value = value


@TABLE.function("msys.core.string_new", "")
def _new(_callout: Callout) -> ECString:
    return ECString()


@TABLE.getter("ec_string.buffer")
def _buffer(_callout: Callout, string: ECString) -> bytes:
    return string.value
