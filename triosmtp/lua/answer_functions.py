"""How scripts answer: ``vctx:set_code``, ``disconnect`` and ``tarpit``, ``msg:discard``, and the fields of ``vctx``."""

import re
from typing import Final

from triosmtp.errors import Reject
from triosmtp.lua.callout import Answer, Callout, Mc, Msg, Vctx
from triosmtp.lua.conversion import text_of
from triosmtp.lua.host import HostObject, HostTable, LuaObject, ScriptError
from triosmtp.smtp import Reply

__all__ = ["DISCARDED", "TABLE", "reject_of", "reply_of"]

TABLE = HostTable()

CONT: Final = 0
DONE: Final = 1
AGAIN: Final = 2
for _name, _value in (("CONT", CONT), ("DONE", DONE), ("AGAIN", AGAIN)):
    TABLE.constant(f"msys.core.VALIDATE_{_name}", _value)

DISCARDED: Final = "550 5.7.0 discarded by policy"
_MAX_TARPIT: Final = 60.0  # seconds
_MAX_TEXT: Final = 4096
_ENHANCED: Final = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: +|$)")
_WITH_CODE: Final = re.compile(r"[2-5]\d\d(?: |$)").match


def reply_of(code: int, text: str) -> Reply:
    """Return the reply for a code and a text, which may begin with an enhanced status code on each of its lines."""
    lines = text.splitlines() or [""]
    found = _ENHANCED.match(lines[0])
    enhanced = found[1] if found is not None and found[1][0] == str(code)[0] else None
    if enhanced is not None:
        lines = [line.removeprefix(enhanced).lstrip(" ") if line.startswith(enhanced) else line for line in lines]
    return Reply(code, "\n".join(lines), enhanced)


def reject_of(answer: Answer, reason: str, decided_by: str) -> Reject:
    """Return the refusal for an answer of scripts with a code of 400 or more."""
    assert answer.code is not None, "it refuses"
    reply = reply_of(answer.code, answer.text)
    text = str(reply.text)
    reject = Reject(answer.code, None, text, reason=reason or text, decided_by=decided_by, closes=answer.closes)
    reject.enhanced = reply.enhanced or ""  # as the script has it
    return reject


def _code(value: object) -> int:
    """Return a code of a reply.

    :raises ScriptError: if it is none.
    """
    octets = text_of(value)
    try:
        number = float(octets)
    except ValueError:
        number = 0.0
    if not 200 <= number <= 599 or number != int(number):
        raise ScriptError(f"a code is a number from 200 to 599, not {octets[:20].decode('utf-8', 'replace')!r}")
    return int(number)


def _text(octets: bytes | None) -> str:
    return (octets or b"")[:_MAX_TEXT].decode("utf-8", "replace").replace("\r\n", "\n")


def _answer(callout: Callout) -> Answer:
    if callout.session is None:
        raise ScriptError("there is no session here")
    return callout.answer


@TABLE.function("vctx:set_code", "as?")
def _set_code(callout: Callout, _vctx: Vctx, code: object, text: bytes | None) -> None:
    answer = _answer(callout)
    answer.code, answer.text = _code(code), _text(text)


@TABLE.function("vctx:disconnect", "as?")
def _disconnect(callout: Callout, vctx: Vctx, code: object, text: bytes | None) -> None:
    _set_code(callout, vctx, code, text)
    _answer(callout).closes = True


@TABLE.function("vctx:pbp_disconnect", "as?", state="should")
def _pbp_disconnect(callout: Callout, vctx: Vctx, code: object, text: bytes | None) -> int:
    _disconnect(callout, vctx, code, text)
    return DONE


@TABLE.function("vctx:pbp_action", "as?", state="should")
def _pbp_action(callout: Callout, vctx: Vctx, code: object, text: bytes | None) -> int:
    _set_code(callout, vctx, code, text)
    return DONE


@TABLE.function("vctx:tarpit", "n")
def _tarpit(callout: Callout, _vctx: Vctx, seconds: float) -> None:
    answer = _answer(callout)
    if not seconds >= 0:
        raise ScriptError("tarpit takes a number of seconds")
    answer.tarpit = min(answer.tarpit + seconds, _MAX_TARPIT)


@TABLE.function("msg:discard", "s?")
def _discard(callout: Callout, _msg: Msg, reason: bytes | None) -> None:
    answer = _answer(callout)
    if callout.session is None or callout.session.envelope is None:
        raise ScriptError("there is no message yet")
    text = _text(reason).replace("\n", " ").strip()
    if text and not _WITH_CODE(text):
        text = f"550 5.7.1 [internal] {text}"
    answer.discard = text or DISCARDED


@TABLE.getter("vctx.code")
def _get_code(callout: Callout, _vctx: Vctx) -> int:
    code = callout.answer.code
    return code if code is not None else 220 if callout.phase in {"connect", "starttls"} else 250


@TABLE.setter("vctx.code")
def _put_code(callout: Callout, _vctx: Vctx, code: object) -> None:
    _answer(callout).code = _code(code)


@TABLE.getter("vctx.note")
def _get_note(callout: Callout, _vctx: Vctx) -> str:
    return callout.answer.text


@TABLE.setter("vctx.note", "s")
def _put_note(callout: Callout, _vctx: Vctx, note: bytes) -> None:
    _answer(callout).text = _text(note)


@TABLE.setter("vctx.disconnect")
def _put_disconnect(callout: Callout, _vctx: Vctx, value: object) -> None:
    _answer(callout).closes = value not in (None, False, 0)


@TABLE.function("msys.core.accept_construct_get_message_construct", "o")
def _message_construct(callout: Callout, _ac: HostObject) -> LuaObject:
    if callout.scripts is None:
        raise ScriptError("there is no session here")
    return callout.scripts.mc


@TABLE.getter("mc.ctx")
def _mc_ctx(callout: Callout, _mc: Mc) -> LuaObject:
    return None if callout.scripts is None else callout.scripts.vctx


@TABLE.getter("mc.message")
def _mc_message(callout: Callout, _mc: Mc) -> LuaObject:
    return None if callout.scripts is None else callout.scripts.msg
