"""The plan with a real server behind: variants, copies, domains, choices of policy, and a retry."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from listen_server import connect, serving
from private_dovecot import Dovecot, running_dovecot

from triosmtp import Message, Policy, Recipient, Session
from triosmtp.testing import ScriptedClient

SENDER = "joe@example.org"
BODY = b"From: joe@example.org\r\nDate: Mon, 30 Nov 2026 12:00:00 +0000\r\nSubject: test\r\n\r\nx\r\n"


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with running_dovecot() as running:
        yield running


@pytest.fixture(autouse=True)
def clean(dovecot: Dovecot) -> None:
    dovecot.clear()


def conf(dovecot: Dovecot, folder: Path) -> str:
    return f"""
        Relay_Domains = ( "example.com" "archive.example" )
        Deliver_To = ( "dovecot" "maildir:{folder}/copy" )
        Delivery "dovecot" {{ Deliver_To = "lmtp:{dovecot.socket}" }}
        Delivery "quarantine" {{ Deliver_To = "maildir:{folder}/quarantine" }}
        Domain "archive.example" {{ Deliver_To = "maildir:{folder}/archive" }}
        ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
    """


class Tag(Policy):
    """Tag the message of each recipient, and quarantine on request."""

    async def validate_data_spool(self, session: Session, message: Message) -> None:
        if b"quarantine" in message.body.headers():
            session.message_variables["deliver_to"] = "quarantine"

    async def validate_data_spool_each_rcpt(self, session: Session, message: Message, recipient: Recipient) -> None:
        if recipient.address.local_part != "b":
            message.edits_of(recipient).append("X-For", recipient.address.local_part)


def files(folder: Path, name: str) -> list[bytes]:
    path = folder / name / "new"
    return sorted(each.read_bytes() for each in path.iterdir()) if path.is_dir() else []


async def begun(server: object) -> ScriptedClient:
    client = await connect(server)  # type: ignore[arg-type]
    await client.read()
    await client.command("EHLO client.example.org")
    return client


async def test_each_recipient_has_its_message_at_each_target(dovecot: Dovecot, tmp_path: Path) -> None:
    async with serving(conf(dovecot, tmp_path), deliver=None, policy=Tag()) as server:
        client = await begun(server)
        recipients = ["a@example.com", "b@example.com", "x@archive.example"]
        for _ in range(2):  # the second message uses the connection of the first
            assert (await client.message(SENDER, recipients, BODY)).code == 250
    for user, tag in (("a", [b"X-For: a"]), ("b", [])):
        found = dovecot.messages(user)
        assert len(found) == 2
        assert all([line for line in each.splitlines() if line.startswith(b"X-For")] == tag for each in found)
    assert [each.count(b"X-For: x") for each in files(tmp_path, "archive")] == [1, 1]
    copies = [(b"To: a@" in each, b"X-For: a" in each) for each in files(tmp_path, "copy")]
    assert sorted(copies) == [(False, False), (False, False), (True, True), (True, True)]


async def test_a_choice_after_rcpt_leaves_the_next_hop_without_a_message(dovecot: Dovecot, tmp_path: Path) -> None:
    async with serving(conf(dovecot, tmp_path), deliver=None, policy=Tag()) as server:
        client = await begun(server)
        body = b"X-Wish: quarantine\r\n" + BODY
        assert (await client.message(SENDER, ["a@example.com", "x@archive.example"], body)).code == 250
        assert (await client.message(SENDER, ["a@example.com"], BODY)).code == 250
    assert len(files(tmp_path, "quarantine")) == 2
    assert len(dovecot.messages("a")) == 1
    assert files(tmp_path, "archive") == []


async def test_a_choice_for_one_recipient_leaves_the_others_at_the_next_hop(dovecot: Dovecot, tmp_path: Path) -> None:
    class Quarantine(Policy):
        async def validate_data_spool_each_rcpt(self, session: Session, message: Message, recipient: Recipient) -> None:
            if recipient.address.local_part == "b":
                session.message_variables["deliver_to"] = "quarantine"

    async with serving(conf(dovecot, tmp_path), deliver=None, policy=Quarantine()) as server:
        client = await begun(server)
        for _ in range(2):
            assert (await client.message(SENDER, ["a@example.com", "b@example.com"], BODY)).code == 250
    assert [len(dovecot.messages(user)) for user in ("a", "b")] == [2, 0]
    assert [len(files(tmp_path, name)) for name in ("copy", "quarantine")] == [2, 2]


async def test_what_a_copy_could_not_store_is_not_delivered_to_dovecot_again(dovecot: Dovecot, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("in the way")
    async with serving(conf(dovecot, tmp_path), deliver=None) as server:
        client = await begun(server)
        recipients = ["a@example.com", "full@example.com", "b@example.com"]
        answer = await client.message(SENDER, recipients, BODY)
        assert (answer.code, "2 of 3 recipients are to be tried again" in answer.text) == (451, True)
        (tmp_path / "copy").unlink()
        answer = await client.message(SENDER, recipients, BODY)
        assert (answer.code, "1 of 3 recipients refused" in answer.text) == (554, True)
    assert [len(dovecot.messages(user)) for user in ("a", "b", "full")] == [1, 1, 0]
    assert len(files(tmp_path, "copy")) == 1
