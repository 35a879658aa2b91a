"""A message on its way to its targets: recipients verified at RCPT, the plan, copies, the reply to mixed results."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from triosmtp import Policy, Reject, Session
from triosmtp.config import TargetSettings
from triosmtp.delivery import (
    DELIVERED,
    Delivery,
    DeliveryTransaction,
    RecipientResult,
    TargetContext,
    parse_delivery,
)
from triosmtp.event import MessageRefused, Refused
from triosmtp.message import Envelope, Message, Origin, Recipient
from triosmtp.server import target_factories
from triosmtp.server.session.dispatch import reply_to_results
from triosmtp.smtp import Address, Reply
from triosmtp.testing import MemoryServer, open_memory_server

BODY = b"Subject: x\r\n\r\nx\r\n"
LATER = RecipientResult(451, "4.2.1", "Mailbox busy", "busy")
NEVER = RecipientResult(550, "5.1.1", "No such user", "unknown")


class Hop(Delivery):
    """A target that answers as the local part of a recipient says, at RCPT or after the body."""

    verifies = True
    splits = True

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.origins: list[Origin] = []

    async def deliver(self, message: Message) -> None:
        raise NotImplementedError

    def begin(self, envelope: Envelope, origin: Origin) -> DeliveryTransaction:
        self.log.append(f"{self.name} begin <{envelope.sender}>")
        self.origins.append(origin)
        return HopTransaction(self)

    def answer(self, recipient: Recipient, when: str) -> RecipientResult:
        word = recipient.address.local_part
        if word == f"bug-{when}":
            raise RuntimeError("a bug")
        return {f"later-{when}": LATER, f"never-{when}": NEVER}.get(word, DELIVERED)

    def __str__(self) -> str:
        return self.name


class HopTransaction(DeliveryTransaction):
    def __init__(self, hop: Hop) -> None:
        self.hop = hop

    async def verify(self, recipient: Recipient) -> RecipientResult:
        self.hop.log.append(f"{self.hop.name} verify {recipient}")
        return self.hop.answer(recipient, "rcpt")

    async def deliver_each(self, message: Message) -> Sequence[RecipientResult]:
        recipients = message.envelope.recipients
        self.hop.log.append(f"{self.hop.name} deliver {' '.join(map(str, recipients))}")
        return [self.hop.answer(recipient, "body") for recipient in recipients]

    def close(self) -> None:
        self.hop.log.append(f"{self.hop.name} close")


class Choose(Policy):
    """Choose a Delivery at a phase."""

    def __init__(self, phase: str, name: str) -> None:
        self.phase, self.name = phase, name

    async def validate_mailfrom(self, session: Session, sender: object, parameters: object) -> None:
        self._choose(session, "mailfrom")

    async def validate_rcptto(self, session: Session, recipient: object, parameters: object) -> None:
        self._choose(session, "rcptto")

    async def validate_data_spool(self, session: Session, message: Message) -> None:
        self._choose(session, "data_spool")

    def _choose(self, session: Session, phase: str) -> None:
        if phase == self.phase:
            session.message_variables["deliver_to"] = self.name


CONFIGURATION = """
    Relay_Domains = ( "example.com" "*.example.com" )
    {}
    Delivery "hop" {{ Deliver_To = "maildir:/hop" }}
    Delivery "other" {{ Deliver_To = "maildir:/hop-other" }}
    Domain "other.example.com" {{ Deliver_To = "other" }}
    Domain "quiet.example.com" {{ Verify_Recipients = false }}
    ESMTP_Listener {{ Listen "127.0.0.1:2525" {{ }} }}
"""


class Dispatched:
    """A server with targets, and a client that sends messages to it."""

    def __init__(self, server: MemoryServer, log: list[str], hops: dict[str, Hop]) -> None:
        self.server, self.log, self.hops = server, log, hops

    async def send(self, *recipients: str, peer: str = "192.0.2.1") -> list[str]:
        """Send one message; return the replies to RCPT and to the end of data."""
        client = self.server.connect(peer=peer)
        await client.read()
        await client.command("EHLO client.example")
        await client.command("MAIL FROM:<a@far.example>")
        replies = [await client.command(f"RCPT TO:<{each}>") for each in recipients]
        if any(reply.code == 250 for reply in replies):
            await client.command("DATA")
            await client.send(BODY + b".\r\n")
            replies.append(await client.read())
        await client.command("QUIT")
        return [str(reply) for reply in replies]


@asynccontextmanager
async def dispatched(
    monkeypatch: pytest.MonkeyPatch, options: str = "Deliver_To = hop", policy: Policy | Iterable[Policy] | None = None
) -> AsyncIterator[Dispatched]:
    """Serve with a hop for every Delivery whose address begins with ``maildir:/hop``."""
    log: list[str] = []
    hops: dict[str, Hop] = {}

    def make(target: TargetSettings, context: TargetContext) -> Delivery:
        address = str(target.addresses[0])
        return hops.setdefault(target.name, Hop(target.name, log)) if "/hop" in address else parse_delivery(address)

    monkeypatch.setattr(target_factories, "FACTORIES", {"maildir": make, "discard": make})
    async with open_memory_server(CONFIGURATION.format(options), policy=policy, use_deliver_to=True) as server:
        yield Dispatched(server, log, hops)


async def test_a_target_is_asked_at_rcpt_and_again_with_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    async with dispatched(monkeypatch) as at:
        replies = await at.send("u@example.com", "never-rcpt@example.com", "later-rcpt@example.com", "v@example.com")
        assert replies[:4] == [
            "250 2.1.5 Recipient ok",
            "550 5.1.1 No such user",
            "451 4.2.1 Mailbox busy",
            "250 2.1.5 Recipient ok",
        ]
        assert replies[4].startswith("250 2.0.0 Ok: queued as ")
        refused = [event for event in at.server.events if isinstance(event, Refused)]
        assert [(event.decided_by, event.reason) for event in refused] == [
            ("delivery", "hop: unknown"),
            ("delivery", "hop: busy"),
        ]
    assert at.log == [
        "hop begin <a@far.example>",
        "hop verify u@example.com",
        "hop verify never-rcpt@example.com",
        "hop verify later-rcpt@example.com",
        "hop verify v@example.com",
        "hop deliver u@example.com v@example.com",
        "hop close",
    ]
    [origin] = at.hops["hop"].origins
    assert (origin.peer, str(origin.address), origin.helo, origin.extended) == (
        "192.0.2.1:1024", "192.0.2.1", "client.example", True,
    )  # fmt: skip


async def test_a_recipient_that_is_refused_here_is_never_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuse(Policy):
        async def validate_rcptto(self, session: Session, recipient: Address, parameters: object) -> None:
            if recipient.local_part == "spam":
                raise Reject(550, "5.7.1", "no")

    async with dispatched(monkeypatch, policy=Refuse()) as at:
        replies = await at.send("spam@example.com", "u@relay.example")
    assert [reply[:9] for reply in replies] == ["550 5.7.1", "550 5.7.1"]
    assert at.log == []


async def test_a_domain_without_verification_and_one_with_another_target(monkeypatch: pytest.MonkeyPatch) -> None:
    async with dispatched(monkeypatch) as at:
        replies = await at.send("never-rcpt@quiet.example.com", "u@other.example.com")
        assert [reply[:3] for reply in replies] == ["250", "250", "250"]
    assert at.log == [
        "other begin <a@far.example>",
        "other verify u@other.example.com",
        "hop begin <a@far.example>",
        "hop deliver never-rcpt@quiet.example.com",
        "other deliver u@other.example.com",
        "hop close",
        "other close",
    ]


@pytest.mark.parametrize("phase", ["mailfrom", "rcptto", "data_spool"])
async def test_policy_chooses_at_any_phase_and_the_transaction_at_rcpt_is_ended(
    phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dispatched(monkeypatch, policy=Choose(phase, "other")) as at:
        replies = await at.send("u@example.com", "v@example.com")
        assert [reply[:3] for reply in replies] == ["250", "250", "250"]
        assert await at.send("u@example.com") != []
    first = at.log[: at.log.index("other close") + 1]
    assert "other deliver u@example.com v@example.com" in first
    assert not [line for line in at.log if line.startswith("hop deliver")]
    if phase == "data_spool":
        assert {"hop verify u@example.com", "hop close"} <= set(at.log)
    else:
        assert not [line for line in at.log if line.startswith("hop")]


@pytest.mark.parametrize("phase", ["mailfrom", "data_spool"])
@pytest.mark.parametrize("options", ["Deliver_To = hop", "Deliver_To = ( hop 'discard:' )", "Deliver_To = 'discard:'"])
async def test_an_unknown_choice_is_a_temporary_error_and_never_the_default(
    phase: str, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dispatched(monkeypatch, options, Choose(phase, "othr")) as at:
        replies = await at.send("u@example.com")
        assert replies[-1] == "451 4.3.5 Server configuration error"
        [refused] = [event for event in at.server.events if isinstance(event, Refused | MessageRefused)]
        assert (refused.decided_by, refused.reason) == ("delivery", "deliver_to = 'othr': there is no such Delivery")
    assert not [line for line in at.log if "deliver" in line]


async def test_an_unknown_choice_without_any_delivery_scope() -> None:
    text = 'Relay_Domains = ( "example.com" ) Deliver_To = "discard:" ESMTP_Listener { Listen "127.0.0.1:25" { } }'
    async with open_memory_server(text, policy=Choose("mailfrom", ""), use_deliver_to=True) as server:
        assert (await Dispatched(server, [], {}).send("u@example.com"))[-1] == "451 4.3.5 Server configuration error"


async def test_a_bug_of_a_target_is_a_temporary_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with dispatched(monkeypatch) as at:
        replies = await at.send("bug-rcpt@example.com", "bug-body@example.com")
    assert replies[0] == "451 4.3.0 Local error in processing"
    assert replies[2] == "451 4.3.0 Local error in processing"
    assert "RuntimeError('a bug')" in caplog.text


async def test_recipients_of_more_than_four_lists_of_targets_come_back_later(monkeypatch: pytest.MonkeyPatch) -> None:
    more = "".join(
        f"Delivery d{n} {{ Deliver_To = 'maildir:/hop{n}' }} Domain d{n}.example.com {{ Deliver_To = d{n} }}\n"
        for n in range(5)
    )
    async with dispatched(monkeypatch, f"Deliver_To = hop {more}") as at:
        replies = await at.send(*(f"u@d{n}.example.com" for n in (0, 1, 2, 3, 4, 0)))
    assert [reply[:9] for reply in replies] == ["250 2.1.5"] * 4 + ["452 4.5.3", "250 2.1.5", "250 2.0.0"]


async def test_copies_are_made_in_order_of_what_the_first_target_took(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    maildir = f"maildir:{tmp_path}/copy"
    async with dispatched(monkeypatch, f"Deliver_To = ( hop '{maildir}' )") as at:
        assert (await at.send("u@example.com", "v@example.com"))[-1].startswith("250 2.0.0 Ok")
        [copy] = (tmp_path / "copy/new").iterdir()
        assert copy.read_bytes().startswith(
            b"Return-Path: <a@far.example>\nDelivered-To: u@example.com\nDelivered-To: v@example.com\nReceived: "
        )
        assert (await at.send("never-body@example.com"))[-1] == "550 5.1.1 No such user"
        assert len(list((tmp_path / "copy/new").iterdir())) == 1
        (tmp_path / "copy/new").rename(tmp_path / "away")
        (tmp_path / "copy/new").write_text("in the way")
        assert (await at.send("u@example.com"))[-1] == "452 4.3.1 Insufficient system storage"


@pytest.mark.parametrize(
    ("results", "reply"),
    [
        ([DELIVERED, DELIVERED], None),
        ([NEVER], Reply(550, "No such user", "5.1.1")),
        ([NEVER, NEVER], Reply(550, "No such user", "5.1.1")),
        ([LATER, LATER], Reply(451, "Mailbox busy", "4.2.1")),
        ([DELIVERED, NEVER], Reply(554, "1 of 2 recipients refused: No such user", "5.1.1")),
        (
            [NEVER, RecipientResult(552, "5.2.2", "Full")],
            Reply(554, "2 of 2 recipients refused: No such user", "5.1.1"),
        ),
        (
            [NEVER, LATER, DELIVERED],
            Reply(451, "2 of 3 recipients are to be tried again: Mailbox busy", "4.2.1"),
        ),
        (
            [DELIVERED, RecipientResult(452, "", "Full")],
            Reply(451, "1 of 2 recipients are to be tried again: Full", "4.0.0"),
        ),
        ([DELIVERED, RecipientResult(550, "", "No")], Reply(554, "1 of 2 recipients refused: No", "5.0.0")),
    ],
)
def test_one_reply_is_made_of_all_results(results: list[RecipientResult], reply: Reply | None) -> None:
    refusal = reply_to_results(results)
    assert (None if refusal is None else refusal.reply) == reply
