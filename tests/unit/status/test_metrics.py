"""Metrics: what is counted, and that no peer can make new series."""

import sys
from collections import Counter
from typing import Any

import attrs
import trio
from hypothesis import given
from hypothesis import strategies as st
from metric_scrape import scrape, series, until
from status_server import MAIL, STATUS, serving

from triosmtp import event as events
from triosmtp.status import metric_label
from triosmtp.status.metric_family import FAMILIES
from triosmtp.status.metrics import MAX_REFUSAL_SERIES, Metrics
from triosmtp.tls import REASONS
from triosmtp.variables import TLSInfo

HOSTILE = st.text(max_size=30) | st.from_regex(r"[A-Za-z0-9:\-_]{1,20}", fullmatch=True)
TLS = st.builds(
    TLSInfo,
    protocol=HOSTILE,
    cipher=HOSTILE,
    cipher_algbits=st.just(1),
    cipher_usebits=st.just(1),
    group=st.none() | HOSTILE,
    sni=HOSTILE,
    verified=st.booleans(),
    verify_code=st.integers(0, 500),
    client_certificate=st.none() | st.binary(max_size=3),
)


def hostile(kind: type) -> st.SearchStrategy[Any]:
    """Make an event in which the peer chooses each text."""
    given_: dict[str, st.SearchStrategy[Any]] = {}
    for field in attrs.fields(kind):
        if field.type is str or field.type == str | None:
            given_[field.name] = HOSTILE
        elif field.name == "session":
            given_[field.name] = st.builds(
                events.SessionInfo, id=HOSTILE, peer=HOSTILE, local=HOSTILE, listener=st.just("ours")
            )
        elif field.name == "tls":
            given_[field.name] = TLS
        elif field.name == "code":
            given_[field.name] = st.integers(400, 599)
        elif field.name == "commands":
            given_[field.name] = st.dictionaries(HOSTILE, st.integers(1, 9), max_size=4)
    # Names of Listens are ours, and so are those of groups and files.
    given_ |= {name: st.just("ours") for name in ("listener", "group", "file") if name in given_}
    return st.builds(kind, **given_)


EVENTS = (
    events.Connected,
    events.ConnectionRefused,
    events.Disconnected,
    events.Refused,
    events.AuthAttempted,
    events.TLSEstablished,
    events.ServerCertificatePresented,
    events.TLSFailed,
    events.MessageAccepted,
    events.MessageRefused,
    events.PolicyFailed,
    events.PolicyFallback,
    events.ShadowDiffered,
    events.PolicyClientRefused,
)


@given(st.lists(st.one_of(*map(hostile, EVENTS)), min_size=1, max_size=40))
def test_no_text_of_a_peer_is_ever_a_label(happened: list[Any]) -> None:
    allowed = {
        "listener": {"ours"},
        "group": metric_label.GROUPS | {"ours"},
        "reason": metric_label.ENDS | metric_label.CONNECTION_LIMITS | metric_label.VERIFY_REASONS | set(REASONS),
        "command": metric_label.VERBS,
        "phase": metric_label.REFUSAL_PHASES,
        "code": metric_label.CODES | {"4xx", "5xx"},
        "decided_by": metric_label.DECIDERS,
        "mechanism": metric_label.AUTH_MECHANISMS,
        "result": {"ok", "failed", "accepted", "discarded", "refused"},
        "version": metric_label.VERSIONS,
        "cipher": metric_label.CIPHERS,
        "outcome": {"verified", "failed", "absent"},
        "fallback": metric_label.FALLBACKS,
    }
    metrics = Metrics()
    for event in happened:
        metrics(event)
    for name, found in trio.run(series, metrics).items():
        if name == "triosmtp_build_info":
            continue
        for labels in found:
            for key, value in zip(FAMILIES[name].labels, labels, strict=True):
                assert value in allowed[key] | {"other"}, (name, key, value)


def test_names_of_ours_are_bounded_too() -> None:
    metrics = Metrics()
    for number in range(5000):
        metrics(
            events.Connected(session=events.SessionInfo(id="s", peer="p", local="l", listener=f"listener-{number}"))
        )
    found = trio.run(series, metrics)["triosmtp_sessions_total"]
    assert len(found) == 201
    assert ("other",) in found


def test_series_of_refusals_are_bounded_whatever_policies_answer() -> None:
    metrics, most = Metrics(), 9 * 27 * 12
    for listener in range(220):
        for code in range(400, 600):
            metrics(
                events.Refused(
                    session=events.SessionInfo(id="s", peer="p", listener=f"l{listener}"),
                    phase="connect",
                    code=code,
                    enhanced=None,
                    text="",
                    decided_by="python:P",
                    reason="",
                )
            )
            metrics(
                events.Refused(
                    session=events.SessionInfo(id="s", peer="p", listener=f"l{listener}"),
                    phase="rcptto",
                    code=code,
                    enhanced=None,
                    text="",
                    decided_by="relay",
                    reason="",
                )
            )
    found = trio.run(series, metrics)["triosmtp_refusals_total"]
    assert MAX_REFUSAL_SERIES < len(found) <= MAX_REFUSAL_SERIES + most
    assert {labels[0] for labels in found if labels[1:] == ("rcptto", "550", "relay")} >= {"l0", "other"}
    assert sum(metrics._refusals.values()) == 220 * len(range(400, 600)) * 2


async def test_refusals_and_certificates_begin_at_zero_on_each_listen() -> None:
    other = MAIL.replace("127.0.0.1:0", "127.0.0.2:0")
    async with serving(f"{MAIL} {other} {STATUS}") as here:
        found = await scrape(here)
    for listener in ("127.0.0.1:0", "127.0.0.2:0"):
        labels = ("listener", listener), ("outcome", "failed"), ("reason", "other")
        assert found["triosmtp_tls_client_certificates_total", labels] == 0
        assert found["triosmtp_tls_failures_total", (("listener", listener), ("reason", "not_tls"))] == 0


async def test_a_client_that_makes_up_commands_makes_no_series() -> None:
    async with serving() as here, await trio.open_tcp_stream("127.0.0.1", here.mail_port) as client:
        before = {key for key in await scrape(here) if "le" not in dict(key[1])}
        await client.send_all(b"".join(b"X%dZ\r\n" % number for number in range(8)) + b'EHLO x{le="1"}\r\nQUIT\r\n')
        with trio.fail_after(20):
            while await client.receive_some():
                pass
        await until(here, "triosmtp_sessions_ended_total", 1, reason="quit")
        new = {key for key in await scrape(here) if "le" not in dict(key[1])} - before
        assert ("triosmtp_commands_total", (("command", "other"),)) in new
        assert len(new) < 12


def test_a_message_costs_a_handful_of_calls() -> None:
    tls = TLSInfo(
        protocol="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", cipher_algbits=256, cipher_usebits=256, group="x25519"
    )
    message = events.MessageAccepted(
        session=events.SessionInfo(id="s", peer="192.0.2.1:1", listener=":25"),
        message="m",
        sender="a@example.org",
        recipients=("b@example.org",),
        size=4000,
        seconds=0.01,
        delivery_seconds=0.001,
        tls=tls,
    )
    metrics, calls = Metrics(), Counter[str]()
    metrics(message)
    before = sys.getprofile()
    sys.setprofile(lambda _frame, event, _argument: calls.update([event]))
    try:
        metrics(message)
    finally:
        sys.setprofile(before)
    assert 0 < calls["call"] <= 12, calls
