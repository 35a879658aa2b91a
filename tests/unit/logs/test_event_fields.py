"""The fields of log lines: each that has a value, in their order, the same for every value that a peer may send."""

import io
import json
import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, get_args

import attrs
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.errors import Problem
from triosmtp.event import Disconnected, MessageAccepted, ServerEvent, SessionInfo, TLSEstablished
from triosmtp.logs.event_fields import LINES, fields_of
from triosmtp.logs.event_log import EventLog
from triosmtp.variables import TLSInfo

NASTY = st.sampled_from(["", "plain", "two words", 'q"\\', "\r\n\x00\x1b[2J", "\u2028\x85é", "\ud800", "[]", "0"])
TLS = TLSInfo(protocol="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", cipher_algbits=256, cipher_usebits=256)
TLS_VALUES = st.builds(
    evolve,
    st.just(TLS),
    group=NASTY | st.none(),
    verified=st.booleans(),
    verify_error=NASTY | st.none(),
    client_subject=NASTY | st.none(),
    handshake_seconds=st.floats(0, 100),
)
VARIABLES = st.dictionaries(st.sampled_from(["auth_status", "auth_user", "client_name", "x"]), NASTY | st.just("pass"))
VALUES: dict[object, st.SearchStrategy[Any]] = {
    str: NASTY,
    str | None: NASTY | st.none(),
    int: st.integers(0, 3),
    float: st.floats(0, 100),
    bool: st.booleans(),
    tuple[str, ...]: st.lists(NASTY, max_size=3).map(tuple),
    tuple[Problem, ...]: st.lists(st.builds(Problem, st.just("error"), NASTY), max_size=2).map(tuple),
    SessionInfo: st.builds(SessionInfo, id=NASTY, peer=NASTY, local=NASTY, listener=NASTY),
    TLSInfo: TLS_VALUES,
    TLSInfo | None: TLS_VALUES | st.none(),
    datetime: st.datetimes(),
    datetime | None: st.datetimes() | st.none(),
    Mapping[str, str]: VARIABLES,
    Mapping[str, int]: st.just({}),
}


def built(kind: type[Any]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{each.name: VALUES[each.type] for each in attrs.fields(attrs.resolve_types(kind))})


ANY = st.one_of(*map(built, get_args(ServerEvent)))


def tls_fields(tls: TLSInfo | None) -> dict[str, object]:
    if tls is None:
        return {"tls": "off"}
    verified = "yes" if tls.verified else "no"
    more = {"verified": verified, "verify_error": tls.verify_error, "client": tls.client_subject}
    return {"tls": tls.protocol, "cipher": tls.cipher, "group": tls.group, **more}


def reference(event: ServerEvent) -> dict[str, object]:
    """Return the fields of the frequent events in the plainest way: all of them, and then those with a value."""
    match event:
        case MessageAccepted():
            passed = event.variables.get("auth_status") == "pass"
            fields = {
                "session": event.session.id, "message": event.message, "peer": event.session.peer,
                "listener": event.session.listener, "helo": event.helo, "from": event.sender, "to": event.recipients,
                "size": event.size, "client_name": event.variables.get("client_name"),
                "user": event.variables.get("auth_user") if passed else None,
                "seconds": round(event.seconds, 4), "decided_by": event.discarded_by or "delivery",
                "discarded_by": event.discarded_by, **tls_fields(event.tls), "answers": event.answers,
            }  # fmt: skip
        case TLSEstablished():
            fields = {
                "session": event.session.id, "peer": event.session.peer, "listener": event.session.listener,
                "seconds": round(event.tls.handshake_seconds, 4), **tls_fields(event.tls),
            }  # fmt: skip
        case Disconnected():
            fields = {
                "session": event.session.id, "peer": event.session.peer, "listener": event.session.listener,
                "reason": event.reason, "detail": event.detail, "seconds": round(event.seconds, 3),
                "messages": event.messages,
            }  # fmt: skip
        case _:
            fields = LINES[type(event)][2](event)
    empty: tuple[object, ...] = (None, "", ())
    return {key: value for key, value in fields.items() if value not in empty or (key == "from" and value == "")}


@given(ANY)
def test_a_line_has_every_field_with_a_value_in_its_order(event: ServerEvent) -> None:
    assert list(fields_of(event).items()) == list(reference(event).items())


@given(ANY)
def test_a_json_line_equals_json_dumps_of_its_fields(event: ServerEvent) -> None:
    out = io.StringIO()
    EventLog(out, logging.DEBUG, "json")(event)
    line = out.getvalue()
    assert line.endswith("\n")
    assert line.isascii()
    assert len(line.splitlines()) == 1
    level, name, _ = LINES[type(event)]
    head = {"time": json.loads(line)["time"], "level": logging.getLevelName(level).lower(), "event": name}
    assert line == json.dumps({**head, **reference(event)}, separators=(",", ":"), default=str) + "\n"


def quoted(text: str) -> str:
    return text if re.fullmatch(r"[!-~]+", text) and not set('"=\\') & set(text) else json.dumps(text)


@given(ANY)
def test_a_text_line_has_all_but_plain_ascii_quoted(event: ServerEvent) -> None:
    out = io.StringIO()
    EventLog(out, logging.DEBUG)(event)
    level, name, _ = LINES[type(event)]
    expected = f" {logging.getLevelName(level)} {name}"
    fields = reference(event)
    details = fields.pop("details", ())
    for key, value in fields.items():
        text = ",".join(value) if isinstance(value, tuple) else str(value)
        expected += f" {key}={quoted(f'<{text}>' if key == 'from' else text)}"
    assert isinstance(details, tuple)
    assert out.getvalue()[23:] == "\n    ".join([expected, *details]) + "\n"


@pytest.mark.parametrize("kind", get_args(ServerEvent))
def test_every_event_has_a_line(kind: type[Any]) -> None:
    assert kind in LINES
    assert len({name for _, name, _ in LINES.values()}) == len(LINES)
