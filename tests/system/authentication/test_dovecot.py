"""Passwords that Debian's Dovecot checks (Auth_Service)."""

import base64
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from auth_client import Errand, by_msmtp
from auth_site import EVERY, Site, serving
from dovecot_auth import Dovecot, dovecot_auth

from triosmtp import AuthAttempt, Policy, Reject, Session
from triosmtp.event import Refused
from triosmtp.server import auth_service
from triosmtp.testing import ScriptedClient

LISTED = EVERY + " XOAUTH2"
TEMPORARY = "454 4.7.0 Temporary authentication failure"
FAILED = "535 5.7.8 Authentication credentials invalid"


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with dovecot_auth() as running:
        yield running


def store(dovecot: Dovecot) -> str:
    return f'Auth_Service = "dovecot:{dovecot.socket}"'


def plain(user: str = "joe", secret: str = "correct horse", acts_as: str = "") -> str:
    return "AUTH PLAIN " + base64.b64encode(f"{acts_as}\0{user}\0{secret}".encode()).decode()


async def connected(site: Site, certificate: str | None = None) -> ScriptedClient:
    """Return a client after EHLO; in TLS unless ``certificate`` is None, and with that one unless it is empty."""
    client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", site.starttls))
    await client.read()
    await client.command("EHLO client.example")
    if certificate is not None:
        await client.starttls(site.context(certificate), "127.0.0.1")
        await client.command("EHLO client.example")
    return client


async def offered(site: Site, certificate: str | None = None) -> list[str]:
    client = await connected(site, certificate)
    answer = await client.command("EHLO client.example")
    await client.aclose()
    return next((line.split()[1:] for line in answer.lines if line.startswith("AUTH")), [])


async def test_mechanisms_that_both_name_are_offered_and_readable_ones_only_in_tls(
    dovecot: Dovecot, tmp_path: Path
) -> None:
    hidden = ["SCRAM-SHA-256", "DIGEST-MD5", "CRAM-MD5"]
    async with serving(tmp_path, auth=LISTED, store=store(dovecot)) as site:
        assert await offered(site) == hidden
        assert await offered(site, "") == [*hidden, "PLAIN", "LOGIN"]
        assert await offered(site, "client") == ["EXTERNAL", *hidden, "PLAIN", "LOGIN"]
        assert "EXTERNAL" not in await offered(site, "stranger")
        client = await connected(site)
        assert str(await client.command(plain())).startswith("538 5.7.11")
        assert str(await client.command("AUTH SCRAM-SHA-256-PLUS")).startswith("504 5.5.4")
        await client.aclose()
    async with serving(tmp_path, 'Allow_Plaintext_Auth = "true"', LISTED, store=store(dovecot)) as site:
        assert await offered(site) == [*hidden, "PLAIN", "LOGIN"]


async def test_real_clients_authenticate_by_every_mechanism(dovecot: Dovecot, tmp_path: Path) -> None:
    mechanisms = ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-256", "EXTERNAL")
    async with serving(tmp_path, auth=LISTED, store=store(dovecot)) as site:
        for mechanism in mechanisms:
            assert await trio.to_thread.run_sync(by_msmtp, Errand(site, mechanism, implicit=False)), mechanism
            if mechanism in {"PLAIN", "SCRAM-SHA-256"}:
                wrong = Errand(site, mechanism, implicit=False, password="wrong horse")
                assert not await trio.to_thread.run_sync(by_msmtp, wrong), mechanism
        passed = [(each.mechanism, each.user, each.decided_by) for each in site.attempts if each.succeeded]
        users = ["client.example" if each == "EXTERNAL" else "joe" for each in mechanisms]
        assert passed == [(name, user, "store") for name, user in zip(mechanisms, users, strict=True)]
        failed = [each for each in site.attempts if not each.succeeded]
        assert [(each.mechanism, each.decided_by) for each in failed] == [
            ("PLAIN", "store"),
            ("SCRAM-SHA-256", "store"),
        ]
        assert [message.variables["auth_user"] for message in site.messages] == users
        assert {message.variables["can_relay"] for message in site.messages} == {"true"}


async def test_an_initial_response_is_passed_on_only_if_the_client_begins(dovecot: Dovecot, tmp_path: Path) -> None:
    async with serving(tmp_path, "", "AUTH LOGIN CRAM-MD5", store=store(dovecot)) as site:
        client = await connected(site, "")
        assert str(await client.command("AUTH CRAM-MD5 am9l")) == "501 5.5.2 Malformed authentication"
        assert (await client.command("AUTH LOGIN am9l")).code == 334  # the user's name, as Outlook sends it
        assert (await client.command(base64.b64encode(b"correct horse").decode())).code == 235
        await client.aclose()


async def test_external_names_the_user_of_the_map_and_no_other_certificate_is_taken(
    dovecot: Dovecot, tmp_path: Path
) -> None:
    async with serving(tmp_path, auth="AUTH EXTERNAL", store=store(dovecot)) as site:
        client = await connected(site, "client")
        assert (await client.command("AUTH EXTERNAL")).code == 334
        assert (await client.command("")).code == 235
        await client.aclose()
        client = await connected(site, "client")  # an empty initial response: no challenge
        assert (await client.command("AUTH EXTERNAL =")).code == 235
        await client.aclose()
        client = await connected(site, "stranger")
        assert (await client.command("AUTH EXTERNAL =")).code in {502, 504}
        await client.aclose()
        client = await connected(site, "client")  # as another user, who is no master user of Dovecot's
        answer = await client.command(f"AUTH EXTERNAL {base64.b64encode(b'joe').decode()}")
        assert str(answer) == FAILED
        await client.aclose()


async def test_failures_count_as_those_of_files(dovecot: Dovecot, tmp_path: Path) -> None:
    more = 'Auth_Failure_Rate_Per_Peer = "3/3600"'
    async with serving(tmp_path, more, "AUTH PLAIN", store=store(dovecot)) as site:
        client = await connected(site, "")
        assert str(await client.command(plain(secret="wrong"))) == FAILED
        assert str(await client.command(plain("barred"))) == FAILED  # the right password of a user without login
        assert str(await client.command("AUTH PLAIN AAA=")) == FAILED  # which is not the form of PLAIN
        assert str(await client.command(plain())) == TEMPORARY  # beyond the rate, even with the right one
        assert [each.user for each in site.attempts][:2] == ["joe", "barred"]
        assert "moved" in site.attempts[1].reason
        await client.aclose()


async def test_too_many_failures_end_the_session(dovecot: Dovecot, tmp_path: Path) -> None:
    async with serving(tmp_path, "Max_Auth_Failures = 1", "AUTH PLAIN LOGIN", store=store(dovecot)) as site:
        client = await connected(site, "")
        assert (await client.command("AUTH LOGIN")).code == 334
        assert (await client.command(base64.b64encode(b"joe").decode())).code == 334
        assert (await client.command("*")).code == 421  # its user was known to Dovecot: an attempt
        await client.aclose()
        client = await connected(site, "")
        assert (await client.command("AUTH LOGIN")).code == 334
        assert (await client.command("*")).code == 501  # nobody was named yet
        assert (await client.command(plain())).code == 235
        await client.aclose()


class Doorman(Policy):
    """Refuses a user whom the service has accepted."""

    async def validate_auth(self, session: Session, attempt: AuthAttempt) -> None:
        assert attempt.password is None
        assert attempt.proven
        raise Reject(535, "5.7.8", f"not {attempt.user} by {attempt.mechanism}")


async def test_policy_may_refuse_whom_dovecot_accepts(dovecot: Dovecot, tmp_path: Path) -> None:
    async with serving(tmp_path, "", "AUTH PLAIN", store=store(dovecot), policy=Doorman()) as site:
        client = await connected(site, "")
        assert str(await client.command(plain())) == "535 5.7.8 not joe by PLAIN"
        await client.aclose()


async def test_a_dovecot_that_is_away_or_hangs_is_a_temporary_failure_and_its_return_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(auth_service, "ANSWER_SECONDS", 0.3)
    caplog.set_level(logging.DEBUG)
    with dovecot_auth() as dovecot:
        async with serving(tmp_path, "", "AUTH PLAIN LOGIN CRAM-MD5", store=store(dovecot)) as site:
            client = await connected(site, "")
            assert (await client.command(plain())).code == 235
            await client.aclose()
            client = await connected(site, "")
            assert (await client.command("AUTH LOGIN")).code == 334
            dovecot.kill()  # in the middle of an exchange
            assert str(await client.command(base64.b64encode(b"joe").decode())) == TEMPORARY
            assert str(await client.command(plain())) == TEMPORARY
            assert await offered(site, "") == ["CRAM-MD5", "PLAIN", "LOGIN"]  # as it was known
            await trio.to_thread.run_sync(dovecot.start)
            assert (await client.command(plain())).code == 235
            await client.aclose()
            client = await connected(site, "")
            dovecot.send(signal.SIGSTOP)
            assert str(await client.command(plain())) == TEMPORARY
            dovecot.send(signal.SIGCONT)
            assert (await client.command(plain())).code == 235
            await client.aclose()
        assert {event.code for event in site.events if isinstance(event, Refused)} == {454}
    log = caplog.text + repr(site.events)
    assert "AUTH is answered 454" in log
    assert "horse" not in log
    assert plain().split()[-1] not in log


async def test_before_dovecot_was_ever_reached_no_readable_secret_is_asked_for_without_tls(tmp_path: Path) -> None:
    absent = f'Auth_Service = "dovecot:{tmp_path}/absent"'
    async with serving(tmp_path, "", "AUTH XOAUTH2 OAUTHBEARER PLAIN LOGIN CRAM-MD5", store=absent) as site:
        assert await offered(site) == ["CRAM-MD5"]
        client = await connected(site, "")
        assert str(await client.command(plain())) == TEMPORARY
        await client.aclose()
