"""The meaning of each answer, targets that cannot be reached, and the health of a target."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from http_server import Answer, HTTPServer, answer, http_server, nothing, raw, silence

from triosmtp.delivery import DeliveryError, SecretFile, TargetHealth
from triosmtp.errors import Reject
from triosmtp.http_client.http_client import HTTPClient
from triosmtp.http_delivery.http_delivery import HTTPDelivery, HTTPTarget
from triosmtp.http_delivery.request_pool import RequestPool
from triosmtp.http_delivery.webhook_signature import SigningSecrets
from triosmtp.limits.target_slots import TargetSlots
from triosmtp.message import Message
from triosmtp.message.spool import Body, SpoolError

Make = Callable[..., Message]


@asynccontextmanager
async def delivery(
    urls: Sequence[str], *, seconds: float = 20, secrets: SigningSecrets | None = None
) -> AsyncIterator[tuple[HTTPDelivery, TargetHealth]]:
    target = HTTPTarget(
        name="app", urls=tuple(f"{url}/mail" for url in urls), tls_name=None, seconds=seconds, connections=2, node="n",
        secrets=secrets,
    )  # fmt: skip
    health = TargetHealth("app")
    pool = RequestPool(partial(HTTPClient, None, connections=1, user_agent="triosmtp"), TargetSlots(2), 30)
    made = HTTPDelivery(target, pool, health)
    try:
        yield made, health
    finally:
        await made.aclose()


async def outcome(
    said: Answer, message: Message, seconds: float = 20, *, failing: bool = False
) -> tuple[str, str, TargetHealth]:
    """Return the reply, the reason for the log, and the health of the target, which may be failing before."""
    async with http_server(said) as server, delivery([server.url], seconds=seconds) as (target, health):
        if failing:
            health.failed("it failed before")
        try:
            await target.deliver(message)
        except Reject as reject:
            return f"{reject.code} {reject.enhanced} {reject.text}", reject.reason or "", health
        except DeliveryError as error:
            return f"{error.code} {error.enhanced}", error.reason, health
        return "250", "", health


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivered(make_message: Make, status: int) -> None:
    reply, _, health = await outcome(answer("", status), make_message(), failing=True)
    assert (reply, health.failing_since) == ("250", None)
    assert health.state().latency is not None


@pytest.mark.parametrize(
    ("said", "shown"), [("", "202"), ("queued 7\r\nas\x00 x", "202: queued 7 as x"), ("x" * 900, "202: " + "x" * 200)]
)
async def test_the_answer_is_returned_for_the_log(make_message: Make, said: str, shown: str) -> None:
    async with http_server(answer(said, 202)) as server, delivery([server.url]) as (target, _):
        assert await target.deliver(make_message()) == shown


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, "554 5.6.0 Message refused"),
        (410, "554 5.3.0 Message refused"),
        (413, "552 5.3.4 Message too big for system"),
        (415, "554 5.6.1 Message refused"),
        (422, "554 5.6.0 Message refused"),
    ],
)
async def test_these_refuse_the_message_for_good_and_the_target_is_well(
    make_message: Make, status: int, expected: str
) -> None:
    reply, reason, health = await outcome(answer("no\r\n250 \x1b[31mé", status), make_message(), failing=True)
    assert (reply, health.failing_since) == (expected, None)
    assert reason == f"app: answered {status}: no 250 [31m"


@pytest.mark.parametrize(
    "status", [301, 302, 307, 308, 401, 402, 403, 404, 405, 408, 409, 421, 429, 500, 502, 503, 504]
)
async def test_all_others_are_to_be_tried_again_and_count_against_the_target(make_message: Make, status: int) -> None:
    reply, reason, health = await outcome(answer("", status, ("Location", "/other")), make_message())
    assert (reply, reason) == ("451 4.3.0", f"app: answered {status}")
    assert health.reason == f"answered {status}"
    assert health.failing_since is not None


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (nothing, "app: not an answer of HTTP: "),
        (raw(b"220 mx\r\n"), "app: not an answer of HTTP: "),
    ],
)
async def test_what_is_no_answer_is_to_be_tried_again(make_message: Make, said: Answer, reason: str) -> None:
    reply, found, health = await outcome(said, make_message())
    assert reply == "451 4.3.0"
    assert found.startswith(reason)
    assert health.failing_since is not None


@pytest.mark.parametrize("said", [answer("x" * 9000), answer("x", 200, ("Content-Encoding", "br"))])
async def test_the_status_counts_also_if_the_rest_cannot_be_read(make_message: Make, said: Answer) -> None:
    reply, _, health = await outcome(said, make_message())
    assert reply == "250"
    assert health.failing_since is None


async def test_no_answer_in_time_is_to_be_tried_again(make_message: Make) -> None:
    reply, reason, health = await outcome(silence, make_message(), seconds=0.1)
    assert (reply, reason, health.connections) == ("451 4.3.0", "app: no answer within 0.1 s", 0)


async def test_an_application_that_refuses_a_large_message_before_its_end_is_heard(make_message: Make) -> None:
    async with http_server(nothing) as server, delivery([server.url]) as (target, _):
        server.refuse_early = b"HTTP/1.1 413 Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        with pytest.raises(Reject) as reject:
            await target.deliver(make_message(b"x" * 5_000_000))
        assert reject.value.code == 552


async def test_an_application_that_accepts_a_message_before_its_end_does_not_have_it(make_message: Make) -> None:
    async with http_server(nothing) as server, delivery([server.url]) as (target, health):
        server.refuse_early = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        with pytest.raises(DeliveryError) as error:
            await target.deliver(make_message(b"x" * 5_000_000))
        assert error.value.code == 451
        assert health.reason == "answered 200 before the whole request was sent"


async def test_the_next_address_is_tried_only_if_there_was_no_connection(make_message: Make) -> None:
    async with http_server(nothing) as gone:
        closed = gone.url
    async with http_server(nothing) as first, http_server(answer()) as second:
        async with delivery([closed, second.url]) as (target, health):
            await target.deliver(make_message())
            assert health.failing_since is None
        async with delivery([first.url, second.url]) as (target, _):
            with pytest.raises(DeliveryError):  # the first one may have the message
                await target.deliver(make_message())
        assert (len(first.requests), len(second.requests)) == (1, 1)
        async with delivery([closed, closed]) as (target, health):
            with pytest.raises(DeliveryError, match="cannot connect"):
                await target.deliver(make_message())
            assert health.reason.startswith("cannot connect")


async def test_a_request_has_the_id_of_the_message_and_of_its_part(make_message: Make, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    secrets = SigningSecrets(SecretFile(secret, secrets=2))
    async with http_server(answer()) as server, delivery([server.url], secrets=secrets) as (target, _):
        message = make_message()
        await target.deliver(message)
        message.part = 2
        await target.deliver(message)
        assert [each.header("webhook-id") for each in server.requests] == ["s-1-1", "s-1-1-2"]
        assert all(each.header("webhook-signature").startswith("v1,") for each in server.requests)
        assert b'"id":"s-1-1"' in server.requests[1].body
        secret.unlink()
        missing = SigningSecrets(SecretFile(secret, secrets=2))
        async with delivery([server.url], secrets=missing) as (other, _):
            with pytest.raises(DeliveryError, match="No such file"):
                await other.deliver(message)
        assert len(server.requests) == 2


async def test_a_spool_file_that_cannot_be_read_is_a_fault_of_ours(
    make_message: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def broken(body: Body) -> AsyncIterator[bytes]:
        if body.size:
            raise SpoolError("the disk has failed", None, tmp_path)
        yield b""

    monkeypatch.setattr(Body, "chunks", broken)
    async with http_server(answer()) as server, delivery([server.url]) as (target, health):
        with pytest.raises(DeliveryError) as error:
            await target.deliver(make_message())
        assert error.value.code == 452
        assert health.failing_since is None


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, ""),
        (405, ""),
        (501, ""),
        (404, "answered 404"),
        (503, "answered 503"),
        (302, "answered 302"),
        (401, "answered 401"),
    ],
)
async def test_a_probe_asks_without_a_message(status: int, reason: str) -> None:
    async with http_server(raw(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())) as server:
        async with delivery([server.url]) as (target, _):
            assert await target.probe() == reason
        assert [(each.method, each.target, each.body) for each in server.requests] == [("HEAD", "/mail", b"")]
    async with delivery([server.url]) as (target, _):
        assert (await target.probe()).startswith("cannot connect")


async def test_a_probe_of_a_target_that_hangs_ends(make_message: Make) -> None:
    async with http_server(silence) as server, delivery([server.url], seconds=0.05) as (target, _):
        with trio.fail_after(10):
            assert await target.probe() == "no answer in time"
        assert isinstance(server, HTTPServer)
        assert str(target) == "app"
        assert target.honours == {"MT-PRIORITY"}
        assert make_message().id == "s-1-1"
