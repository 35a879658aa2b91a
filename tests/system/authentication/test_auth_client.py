"""Real clients prove who they are, by every mechanism that they know, after STARTTLS and from the first byte."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
from auth_client import Errand, by_curl, by_gsasl, by_msmtp, by_smtplib, by_swaks
from auth_site import PASSWORD, USER, Site, serving

from triosmtp.auth import hash_password

CASES: list[tuple[Callable[[Errand], bool], str, bool]] = [
    *[(by_smtplib, m, i) for m in ("PLAIN", "LOGIN", "CRAM-MD5") for i in (False, True)],
    *[(by_curl, m, i) for m in ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "EXTERNAL") for i in (False, True)],
    *[(by_swaks, m, i) for m in ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5") for i in (False, True)],
    *[
        (by_msmtp, m, i)
        for m in ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-256", "EXTERNAL")
        for i in (False, True)
    ],
    *[(by_gsasl, m, False) for m in ("SCRAM-SHA-256-PLUS", "PLAIN")],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("auth")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as served:
        yield served


@pytest.mark.parametrize(("client", "mechanism", "implicit"), CASES)
async def test_real_clients_authenticate_with_the_right_password_only(
    site: Site, client: Callable[[Errand], bool], mechanism: str, implicit: bool
) -> None:
    assert await trio.to_thread.run_sync(client, Errand(site, mechanism, implicit))
    passed = [attempt for attempt in site.attempts if attempt.succeeded]
    user = "client.example" if mechanism == "EXTERNAL" else USER
    assert [(attempt.mechanism, attempt.user) for attempt in passed] == [(mechanism, user)]
    if client is not by_gsasl:
        [message] = site.messages
        assert message.variables["auth_user"] == user
        assert message.variables["auth_name"] == mechanism
        assert message.variables["auth_status"] == "pass"
        assert message.variables["can_relay"] == "true"
        assert b"SA\r\n" in message.trace.replace(b"ESMTPSA id", b"SA\r\n")
    if mechanism == "EXTERNAL":
        return
    before = len(site.messages)
    assert not await trio.to_thread.run_sync(client, Errand(site, mechanism, implicit, "wrong horse"))
    assert [attempt.succeeded for attempt in site.attempts][-1] is False
    assert len(site.messages) == before
    assert "horse" not in repr(site.events)


@pytest.mark.parametrize("scheme", ["argon2id", "scrypt", "pbkdf2-sha256", "scram-sha-256"])
async def test_against_stored_hashes(tmp_path: Path, scheme: str) -> None:
    async with serving(tmp_path, auth="AUTH PLAIN SCRAM-SHA-256", stored=hash_password(PASSWORD, scheme)) as site:
        assert await trio.to_thread.run_sync(by_smtplib, Errand(site, "PLAIN", implicit=True))
        assert not await trio.to_thread.run_sync(by_smtplib, Errand(site, "PLAIN", implicit=True, password="wrong"))
        scram = await trio.to_thread.run_sync(by_msmtp, Errand(site, "SCRAM-SHA-256", implicit=False))
        assert scram is (scheme == "scram-sha-256")
