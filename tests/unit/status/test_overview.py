"""What the page and `top` show: counted in the server, folded, and bounded for all clients."""

from collections.abc import Iterator
from typing import Any

import trio
from status_server import MAIL, STATUS, NoSource, serving

from triosmtp import event as events
from triosmtp.errors import Problem, Severity
from triosmtp.status.overview import Overview
from triosmtp.variables import TLSInfo

NOON = 1_800_000_000.0
TLS = TLSInfo(protocol="TLSv1.3", cipher="x", cipher_algbits=256, cipher_usebits=256, group="x25519")


class Clock:
    """Seconds since the epoch, as a test likes."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def gather(overview: Overview) -> dict[str, Any]:
    value: dict[str, Any] = trio.run(overview.gather, NoSource())
    return value


def refused(number: int = 0, peer: str = "192.0.2.1:25", **more: Any) -> events.Refused:
    return events.Refused(
        session=events.SessionInfo(id="s", peer=peer, listener=":25"),
        phase="rcptto",
        code=550,
        enhanced="5.7.1",
        text="relaying denied",
        decided_by="relay",
        reason=f"number {number}",
        sender="",
        recipients=(f"r{number}@example.org",),
        **more,
    )


def message_refused(decided_by: str) -> events.MessageRefused:
    return events.MessageRefused(
        session=events.SessionInfo(id="s", peer="192.0.2.1:25", listener=":25"),
        message="m",
        sender="a@example.org",
        recipients=("b@example.org",) * 5,
        size=1,
        code=451,
        enhanced=None,
        text="later",
        decided_by=decided_by,
        reason="disk full",
        tls=None,
    )


def refusals_of_every_kind() -> Iterator[Any]:
    yield refused()
    yield message_refused("python:Mine")
    yield message_refused("delivery")
    yield message_refused("spool")
    yield events.ConnectionRefused(peer="192.0.2.1:25", listener=":25", reason="Listener_Sessions")
    yield events.AuthAttempted(
        session=events.SessionInfo(id="s", peer="192.0.2.1:25", listener=":25"),
        mechanism="PLAIN",
        user="me",
        succeeded=False,
        reason="no",
    )


def test_refusals_of_every_kind_are_counted_in_the_server() -> None:
    overview = Overview(Clock())
    for event in refusals_of_every_kind():
        overview(event)
    value = gather(overview)
    assert value["per_minute"]["refused"] == 6
    assert value["per_minute"]["undelivered"] == 2
    assert sum(value["last_minutes"]["refused"]) == sum(value["last_day"]["refused"]) == 6
    assert [each["decided_by"] for each in value["delivery_failures"]] == ["spool", "delivery"]
    assert len(value["refusals"]) == 4
    assert value["delivery_failures"][0]["recipients"] == ["<b@example.org>"] * 3
    assert value["delivery_failures"][0]["recipients_more"] == 2


async def test_a_session_that_is_refused_a_thousand_times_is_counted_a_thousand_times() -> None:
    mail = MAIL.replace("Deliver_To", "Max_Command_Errors = 0 Max_Refused_Recipients = 0 Deliver_To")
    async with serving(f"{mail} {STATUS}") as here:
        await here.status.overview()
        async with await trio.open_tcp_stream("127.0.0.1", here.mail_port) as client:
            commands = ["EHLO a.example", "MAIL FROM:<a@b.example>"]
            commands += [f"RCPT TO:<{number}@elsewhere.example>" for number in range(1000)]
            await client.send_all("".join(f"{command}\r\n" for command in [*commands, "QUIT"]).encode())
            with trio.fail_after(30):
                while await client.receive_some():
                    pass
        value = await here.status.overview()
    assert value["per_minute"]["refused"] == 1000
    assert value["listeners"][0]["minute"]["refused"] == value["listeners"][0]["total"]["refused"] == 1000
    (row,) = value["refusals"]
    assert row["count"] == 1000
    assert (row["sender"], row["recipients"]) == ("<a@b.example>", ["<999@elsewhere.example>"])


def test_a_refusal_says_over_which_tls_it_came() -> None:
    overview = Overview(Clock())
    overview(events.TLSEstablished(session=events.SessionInfo(id="s", peer="192.0.2.1:25", listener=":25"), tls=TLS))
    overview(refused())
    overview(
        events.Disconnected(
            session=events.SessionInfo(id="s", peer="192.0.2.1:25"), reason="quit", seconds=1.0, messages=0
        )
    )
    overview(refused(peer="192.0.2.2:25"))
    assert [each["tls"] for each in gather(overview)["refusals"]] == ["", "TLSv1.3, no certificate"]


def test_repeated_refusals_fold_and_others_do_not() -> None:
    clock = Clock()
    overview = Overview(clock)
    for number in range(38):
        overview(refused(number, f"192.0.2.1:{number + 1000}"))
        clock.now += 1
    overview(refused(peer="[2001:db8::1]:25"))
    latest, repeated = gather(overview)["refusals"]
    assert (latest["peer"], latest["count"], latest["sender"]) == ("[2001:db8::1]:25", 1, "<>")
    assert (repeated["count"], repeated["first"], repeated["time"]) == (38, NOON, NOON + 37)
    assert repeated["recipients"] == ["<r37@example.org>"]


def test_a_day_is_kept_in_bounded_memory_and_shown_by_five_minutes() -> None:
    clock = Clock()
    overview = Overview(clock)
    for _ in range(3 * 24 * 60):
        overview(refused())
        overview(events.TLSEstablished(session=events.SessionInfo(id="", peer="192.0.2.1:25", listener=":25"), tls=TLS))
        clock.now += 60
    day = gather(overview)["last_day"]
    assert day["seconds"] == 300
    assert len(day["refused"]) == len(day["versions"]["TLSv1.3"]) == 288
    assert set(day["refused"][:-1]) == {5}
    assert day["begin"] == clock.now // 300 * 300 - 287 * 300
    assert len(overview._day._buckets) == 288
    assert len(overview._minutes._buckets) == 300
    clock.now += 86400
    value = gather(overview)
    assert sum(value["last_day"]["refused"]) == 0
    assert value["per_minute"]["refused"] == 0


def test_a_clock_that_is_set_back_does_no_harm() -> None:
    clock = Clock()
    overview = Overview(clock)
    overview(refused())
    clock.now -= 3600
    overview(refused())
    assert gather(overview)["per_minute"]["refused"] == 1


def test_nothing_that_peers_choose_grows_without_end() -> None:
    overview = Overview(Clock())
    for number in range(12_000):
        peer = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:25"
        overview(
            events.TLSEstablished(
                session=events.SessionInfo(id=f"s{number}", peer=peer, listener=f"listen {number}"), tls=TLS
            )
        )
        overview(refused(number, peer))
        overview(
            events.TLSFailed(
                session=events.SessionInfo(id="s", peer=peer, listener=":25"), reason=f"reason {number}", detail=""
            )
        )
        overview(
            events.ConfigurationReloadFailed(path="x", reason="r", problems=(Problem(Severity.ERROR, "y" * 1000),))
        )
    value = gather(overview)
    assert [each["reason"] for each in value["refusals"]] == [f"number {each}" for each in range(11_999, 11_899, -1)]
    assert len(overview._failures) <= 41
    assert len(overview._totals) <= 202 * 6
    assert len(overview._tls) <= 10_000
    assert len(value["reloads"]) == 20
    assert all(len(each["text"]) <= 201 for each in value["reloads"])
    assert sum(value["last_minutes"]["refused"]) == 12_000


def test_a_configuration_that_is_not_in_force_says_what_is() -> None:
    clock = Clock()
    overview = Overview(clock, started=NOON - 100)
    failed = events.ConfigurationReloadFailed(
        path="a.conf", reason="SIGHUP", problems=(Problem(Severity.ERROR, "no such"),)
    )
    overview(failed)
    clock.now += 50
    overview(failed)
    (problem,) = gather(overview)["problems"]
    assert (problem["what"], problem["reason"], problem["since"]) == ("configuration a.conf", "no such", NOON)
    assert problem["in_force"] == [{"what": "the configuration before", "read": NOON - 100, "not_after": None}]
    overview(events.ConfigurationReloaded(path="a.conf", reason="SIGHUP", opened=(), closed=(), kept=(), sessions=0))
    assert gather(overview)["problems"] == []
