"""``msg:mailfrom``, ``msg:rcptto``, ``msg:get_envelope2``, ``vctx:recipient_list``: sender and recipients."""

from collections.abc import Sequence
from typing import Any, Final

from triosmtp.lua.api.accept_functions import divided_endpoint, endpoint_text
from triosmtp.lua.api.access import Callout, message_of, session_of, text
from triosmtp.lua.api.ec_string import ECString
from triosmtp.lua.conversion import lua_list, text_of
from triosmtp.lua.host import HostObject, HostTable, ScriptError
from triosmtp.message import Envelope, Recipient
from triosmtp.smtp import Address, PathError, parse_path

__all__ = ["TABLE"]

TABLE = HostTable()

_MAX_RECIPIENTS: Final = 1000
_FROM, _TO, _COMPLETE = 1, 2, 4
TABLE.constant("msys.core.EC_MSG_ENV_FROM", _FROM)
TABLE.constant("msys.core.EC_MSG_ENV_TO", _TO)
TABLE.constant("msys.core.EC_MSG_ENV_COMPLETE", _COMPLETE)

_LIST_FINAL: Final = frozenset({"validate_rcptto_list_final", "validate_data_spool_each_rcpt"})
_LIST_AT: Final = frozenset({"validate_data", "validate_data_spool", "validate_rcptto_list"})


def _envelope(callout: Callout) -> Envelope:
    envelope = session_of(callout).envelope
    if envelope is None:
        raise ScriptError("there is no message yet")
    return envelope


def _address(value: bytes, *, forward: bool) -> Address:
    """Return an address of a script, with or without ``<`` and ``>``.

    :raises ScriptError: if it is none.
    """
    path = value if value.startswith(b"<") else b"<" + value + b">"
    try:
        return parse_path(path, utf8=True, forward=forward)
    except PathError as error:
        raise ScriptError(f"{text(value)!r} is not an address: {error}") from None


async def _judged(callout: Callout, address: Address) -> None:
    """Check that a message may have a recipient that a script adds.

    :raises ScriptError: if it may not.
    """
    session = session_of(callout)
    reason = await callout.engine.resources.judge(session, address)
    if reason:
        raise ScriptError(f"{address}: {reason}")


def _sender_text(callout: Callout) -> str:
    """Return the sender; at ``mailfrom`` the one that is decided about."""
    session = session_of(callout)
    if session.envelope is not None:
        return session.envelope.sender.text
    return session.message_variables.get("mailfrom_string", "")


def _recipient_text(callout: Callout) -> str:
    """Return the recipient that the callout is about; else the latest one."""
    if callout.recipient is not None:
        return str(callout.recipient)
    return session_of(callout).message_variables.get("rcptto_string", "")


@TABLE.function("msg:mailfrom", "s?")
def _mailfrom(callout: Callout, _msg: HostObject, new: bytes | None) -> str:
    if new is not None:
        _envelope(callout).sender = Address.NULL if new in {b"", b"<>"} else _address(new, forward=False)
    return _sender_text(callout)


@TABLE.function("msg:rcptto", "s?", waits=True)
def _rcptto(callout: Callout, _msg: HostObject, new: bytes | None) -> Any:
    return _recipient_text(callout) if new is None else _set_recipient(callout, new)


async def _set_recipient(callout: Callout, new: bytes) -> str:
    if callout.recipient is None:
        raise ScriptError("a recipient is set in validate_data_spool_each_rcpt only")
    address = _address(new, forward=True)
    if address != callout.recipient.address:
        await _judged(callout, address)
        callout.recipient = message_of(callout).replace_recipient(callout.recipient, address)
    return address.text


@TABLE.function("msg:get_envelope2", "ioo?")
def _get_envelope2(callout: Callout, _msg: HostObject, flag: int, first: ECString, second: ECString | None) -> None:
    if not isinstance(first, ECString):
        raise ScriptError("get_envelope2 fills strings of msys.core.string_new()")
    if not flag & (_FROM | _TO):
        raise ScriptError("the flag is EC_MSG_ENV_FROM or EC_MSG_ENV_TO")
    address = _sender_text(callout) if flag & _FROM else _recipient_text(callout)
    if flag & _COMPLETE:
        first.value = address.encode("utf-8", "surrogateescape")
        return
    localpart, at, domain = address.rpartition("@")
    first.value = (localpart if at else domain).encode("utf-8", "surrogateescape")
    if isinstance(second, ECString):
        second.value = (domain if at else "").encode("utf-8", "surrogateescape")


# The list of recipients


def _list_envelope(callout: Callout) -> Envelope:
    """Return the envelope if its list of recipients may be changed now."""
    if callout.method in _LIST_FINAL:
        raise ScriptError("the list of recipients is final")
    if callout.method not in _LIST_AT:
        raise ScriptError("the list of recipients is changed when the body has arrived")
    return _envelope(callout)


def _listed(recipients: Sequence[Recipient]) -> dict[int, str]:
    """Return the list as scripts get it: from 1 on, and an empty string at 0, from which the manual counts."""
    return {0: "", **{number: str(each) for number, each in enumerate(recipients, 1)}}


@TABLE.function("vctx:recipient_list", "a", state="should", waits=True)
def _recipient_list(callout: Callout, _vctx: HostObject, new: Any) -> Any:
    if new is None:
        return _listed(_envelope(callout).recipients)
    envelope = _list_envelope(callout)
    values = lua_list(new, _MAX_RECIPIENTS) if type(new).__name__ == "_LuaTable" else [new]
    return _replace_list(callout, envelope, [_address(text_of(each), forward=True) for each in values])


async def _replace_list(callout: Callout, envelope: Envelope, addresses: list[Address]) -> dict[int, str]:
    known = {each.address: each for each in envelope.recipients}
    recipients = []
    for address in dict.fromkeys(addresses):
        if address not in known:
            await _judged(callout, address)
        recipients.append(known.get(address) or Recipient(address, {}))
    if not recipients:
        raise ScriptError("a message has at least one recipient: use msg:discard()")
    envelope.recipients[:] = recipients
    return _listed(recipients)


@TABLE.function("vctx:add_recipient", "s", state="should", waits=True)
async def _add_recipient(callout: Callout, _vctx: HostObject, new: bytes) -> bool:
    envelope, address = _list_envelope(callout), _address(new, forward=True)
    if any(each.address == address for each in envelope.recipients):
        return True
    if len(envelope.recipients) >= _MAX_RECIPIENTS:
        raise ScriptError(f"the message has {_MAX_RECIPIENTS} recipients")
    await _judged(callout, address)
    envelope.recipients.append(Recipient(address, {}))
    return True


@TABLE.function("vctx:remove_recipient", "s", state="should")
def _remove_recipient(callout: Callout, _vctx: HostObject, old: bytes) -> bool:
    envelope, address = _list_envelope(callout), _address(old, forward=True)
    left = [each for each in envelope.recipients if each.address != address]
    if len(left) == len(envelope.recipients):
        return False
    if not left:
        raise ScriptError("a message has at least one recipient: use msg:discard()")
    envelope.recipients[:] = left
    return True


# Peers and ids


def _part(endpoint: str, flag: bytes | None) -> str:
    address, port = divided_endpoint(endpoint)
    if flag in {None, b"all"}:
        return endpoint_text(endpoint)
    if flag in {b"ip", b"port"}:
        return address if flag == b"ip" else port
    raise ScriptError("the part of an endpoint is ip, port or all")


@TABLE.function("msg:reception_peer", "s?")
def _reception_peer(callout: Callout, _msg: HostObject, flag: bytes | None) -> str:
    return _part(session_of(callout).peer, flag)


@TABLE.function("msg:listener_addr", "s?")
def _listener_addr(callout: Callout, _msg: HostObject, flag: bytes | None) -> str:
    return _part(session_of(callout).local, flag)


def _message_id(callout: Callout, _msg: HostObject) -> str:
    return session_of(callout).id if callout.message is None else callout.message.id


TABLE.getter("msg.id")(_message_id)
TABLE.getter("msg.batch_id")(_message_id)


@TABLE.getter("msg.conn_id")
def _conn_id(callout: Callout, _msg: HostObject) -> str:
    return session_of(callout).id


@TABLE.getter("msg.recv_from")
def _recv_from(callout: Callout, _msg: HostObject) -> str:
    return endpoint_text(session_of(callout).peer)


@TABLE.getter("msg.recv_via")
def _recv_via(callout: Callout, _msg: HostObject) -> str:
    return endpoint_text(session_of(callout).local)


@TABLE.getter("msg.recv_method")
def _recv_method(_callout: Callout, _msg: HostObject) -> str:
    return "esmtp"
