"""``msys.registerControl`` and ``msys.registerAuth``: what scripts add to the console and to AUTH."""

from collections.abc import Sequence
from typing import Final

from triosmtp.lua.api.access import Callout, text
from triosmtp.lua.callout import Response
from triosmtp.lua.host import HostObject, HostTable, LuaFunction, LuaTable, ScriptError

__all__ = ["TABLE", "ControlCall"]

TABLE = HostTable()
TABLE.sources += ["api/dumper", "api/pool"]

_MAX_REGISTERED: Final = 100
_MAX_LATER: Final = 100
_MAX_REPLY: Final = 4096
for _number, _name in enumerate(("EC_AUTH_OK", "EC_AUTH_FAIL", "EC_AUTH_ERROR")):
    TABLE.constant(f"msys.core.{_name}", _number)


class ControlCall(HostObject):
    """``cc``: a command of the console with its arguments."""

    lua_class = "control_call"

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)


@TABLE.getter("control_call.argc", state="should")
def _argc(_callout: Callout, call: ControlCall) -> int:
    return len(call.words)


@TABLE.getter("control_call.argv", state="should")
def _argv(_callout: Callout, call: ControlCall) -> dict[int, str]:
    return dict(enumerate(call.words))


@TABLE.function("msys.registerControl", "sf", state="should")
def _register_control(callout: Callout, word: bytes, function: LuaFunction) -> None:
    controls = callout.engine.controls
    if not word or word != word.strip() or len(word) > 64:
        raise ScriptError(f"{text(word)!r} is not a word of the console")
    if len(controls) >= _MAX_REGISTERED:
        raise ScriptError(f"more than {_MAX_REGISTERED} commands are registered")
    controls[word] = function


@TABLE.function("msys.registerAuth", "st", state="should")
def _register_auth(callout: Callout, scheme: bytes, functions: LuaTable) -> None:
    if callout.session is not None:
        raise ScriptError("msys.registerAuth is for init")
    authenticators = callout.engine.authenticators
    if len(authenticators) >= _MAX_REGISTERED:
        raise ScriptError(f"more than {_MAX_REGISTERED} schemes are registered")
    authenticators[scheme] = functions


@TABLE.function("response:write", "si?", state="should")
def _write(_callout: Callout, response: Response, text: bytes, size: int | None) -> None:
    written = text if size is None else text[: max(size, 0)]
    response.text = (response.text + written)[:_MAX_REPLY]


@TABLE.function("msys._after", "f", state="should")
def _after(callout: Callout, function: LuaFunction) -> None:
    if callout.put_off >= _MAX_LATER:
        raise ScriptError(f"more than {_MAX_LATER} functions wait for the end of the callout")
    callout.put_off += 1
    callout.after.append(function)
