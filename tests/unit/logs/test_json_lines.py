"""The short way to the JSON lines of frequent events, compared with the general one."""

import io
import json
import logging
from collections.abc import Iterator
from itertools import product

import pytest
from attrs import evolve

from triosmtp.event import Disconnected, MessageAccepted, Refused, ServerEvent, SessionInfo, TLSEstablished
from triosmtp.logs import event_log
from triosmtp.logs.event_log import EventLog
from triosmtp.logs.json_lines import JSON_LINES
from triosmtp.variables import TLSInfo

TEXTS = ("plain", "", '"}\\\r\n{"event":"accepted"}\x00\x1b[2J', "\u2028\u202e\ud800 ünï 🎉", "\x7f/</script>")
NUMBERS = (0, 0.0, 0.00004, 1.23456789, 1e-7, 123456.5, 1e22)
TLS = TLSInfo(protocol="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", cipher_algbits=256, cipher_usebits=256, group="x")


def _session(name: str, peer: str, listener: str) -> SessionInfo:
    return SessionInfo(id=name, peer=peer, listener=listener)


def tls_values() -> Iterator[TLSInfo]:
    for text in TEXTS:
        yield evolve(TLS, protocol=text)
        yield evolve(TLS, cipher=text)
        yield evolve(TLS, group=text)
        yield evolve(TLS, verify_error=text)
        yield evolve(TLS, client_subject=text, verified=True)
    yield evolve(TLS, group=None)
    yield from (evolve(TLS, handshake_seconds=seconds) for seconds in NUMBERS)


def events() -> Iterator[ServerEvent]:
    for text, number in product(TEXTS, NUMBERS):
        for session in (
            _session("s", "p", "n"),
            _session("s", text, text),
            _session(text, "p", "n"),
        ):
            accepted = MessageAccepted(
                session=session, message="m", sender=text, recipients=("a@x",), size=int(number), seconds=number,
                tls=None, helo="h",
            )  # fmt: skip
            yield accepted
            yield evolve(accepted, helo=text, message=text)
            yield evolve(accepted, recipients=(text, "b@x", text))
            yield evolve(accepted, recipients=())
            yield evolve(accepted, discarded_by=text)
            yield evolve(accepted, answers=(text, "hop: 250"))
            yield evolve(accepted, variables={"auth_status": "pass", "auth_user": text})
            yield evolve(accepted, variables={"auth_status": text})
            yield evolve(accepted, variables={"client_name": text})
            yield Disconnected(session=session, reason=text, seconds=number, messages=int(number))
            yield Disconnected(session=session, reason="quit", seconds=number, messages=0, detail=text)
    for tls in tls_values():
        yield TLSEstablished(session=_session("s", "p", "n"), tls=tls)
        yield evolve(accepted, session=_session("s", "p", "n"), helo="h", tls=tls)


def lines(monkeypatch: pytest.MonkeyPatch, *, short: bool) -> list[str]:
    monkeypatch.setattr(event_log, "JSON_LINES", JSON_LINES if short else {})
    monkeypatch.setattr(event_log, "time", lambda: 1_800_000_000.25)
    out = io.StringIO()
    log = EventLog(out, logging.DEBUG, "json")
    for event in events():
        log(event)
    return out.getvalue().split("\n")


def test_the_short_way_writes_what_the_general_one_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    general = lines(monkeypatch, short=False)
    assert len(general) > 900
    assert lines(monkeypatch, short=True) == general
    assert all(isinstance(json.loads(line), dict) for line in general[:-1])


def test_usual_events_go_the_short_way() -> None:
    session = _session("s", "192.0.2.1:4711", "127.0.0.1:25")
    accepted = MessageAccepted(
        session=session, message="s-1", sender="", recipients=("a@x",), size=1, seconds=0.1, tls=TLS, helo="h"
    )
    usual: tuple[ServerEvent, ...] = (
        accepted,
        evolve(accepted, tls=None),
        TLSEstablished(session=session, tls=TLS),
        Disconnected(session=session, reason="quit", seconds=1.5, messages=1),
    )
    assert all(JSON_LINES[type(event)](event) for event in usual)


def test_the_end_of_a_session_still_reports_lines_that_were_left_out() -> None:
    session, out = _session("s", "p", "n"), io.StringIO()
    log = EventLog(out, logging.INFO, "json")
    refused = Refused(
        session=session, phase="command", code=503, enhanced="5.5.1", text="No", decided_by="protocol", reason="why"
    )
    for _ in range(30):
        log(refused)
    log(Disconnected(session=session, reason="quit", seconds=1.0, messages=0))
    *_, counted, ended = map(json.loads, out.getvalue().splitlines())
    assert (counted["event"], counted["folded"]) == ("refused", 10)
    assert ended["event"] == "disconnected"
