"""Access rules of the Status_Listener: only a request that names this host and has the token is allowed."""

from typing import Any

import pytest

from triosmtp.status.request_access import AccessGuard, AccessRules, has_bearer_token, header_field


def rules(host: str | None = "127.0.0.1", token: str | None = "secret") -> AccessRules:
    return AccessRules("status", host, frozenset({"mx.example.org"}), token)


def scope(*headers: tuple[bytes, bytes], path: str = "/metrics") -> dict[str, Any]:
    return {"type": "http", "path": path, "headers": list(headers)}


@pytest.mark.parametrize(
    "value",
    ["localhost", "LOCALHOST:9115", "127.0.0.1", "127.9.9.9:80", "[::1]:9115", "mx.example.org", "MX.Example.Org."],
)
def test_a_name_of_this_host_is_accepted(value: str) -> None:
    assert rules().accepts_host(value.encode())


@pytest.mark.parametrize(
    "value",
    ["", "evil.example", "mx.example.org.evil.example", "192.0.2.1", "localhost:x", "[::1]x", "a..b", "\xff", "[::1"],
)
def test_any_other_name_is_refused(value: str) -> None:
    assert not rules().accepts_host(value.encode("latin-1"))


def test_the_address_of_the_listen_is_accepted_and_all_are_if_it_has_none() -> None:
    assert rules("192.0.2.1").accepts_host(b"192.0.2.1:9115")
    assert not rules("192.0.2.1").accepts_host(b"192.0.2.2")
    assert rules(None).accepts_host(b"192.0.2.2")


@pytest.mark.parametrize(
    ("value", "accepted"),
    [(b"Bearer secret", True), (b"bearer  secret ", True), (b"Bearer Secret", False), (b"Basic secret", False),
     (b"secret", False), (b"Bearer", False), (b"", False)],
)  # fmt: skip
def test_the_token_is_a_bearer_token(value: bytes, accepted: bool) -> None:
    assert has_bearer_token(rules(), scope((b"authorization", value))) is accepted


def test_a_listen_without_a_token_accepts_no_token() -> None:
    assert not rules(token=None).accepts_token(b"")
    assert not rules(token=None).accepts_token(b"None")


def test_a_repeated_header_field_counts_as_missing() -> None:
    assert header_field(scope((b"host", b"a")), b"host") == b"a"
    assert header_field(scope((b"host", b"a"), (b"host", b"a")), b"host") is None
    assert header_field(scope(), b"host") is None


async def respond(headers: list[tuple[bytes, bytes]], path: str = "/metrics") -> list[dict[str, Any]]:
    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Cache-Control", b"max-age=1")]})
        await send({"type": "http.response.body", "body": b"data"})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("no body is read")

    await AccessGuard(application, rules(), open_paths={"/login"})(scope(*headers, path=path), receive, send)
    return sent


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ([(b"host", b"localhost"), (b"authorization", b"Bearer secret")], "/metrics", 200),
        ([(b"host", b"localhost")], "/login", 200),
        ([(b"host", b"localhost")], "/metrics", 401),
        ([(b"host", b"evil.example"), (b"authorization", b"Bearer secret")], "/metrics", 421),
        ([(b"host", b"evil.example")], "/login", 421),
        ([], "/login", 421),
    ],
)
async def test_the_guard_lets_only_allowed_requests_pass(
    headers: list[tuple[bytes, bytes]], path: str, status: int
) -> None:
    start, body = await respond(headers, path)
    assert start["status"] == status
    assert (body["body"] == b"data") is (status == 200)
    names = [name.lower() for name, _ in start["headers"]]
    assert {b"x-frame-options", b"content-security-policy", b"x-content-type-options"} <= set(names)
    assert names.count(b"cache-control") == 1
