"""A message on its way to its targets: recipients verified at RCPT, the plan, copies, the reply to mixed results."""

import gc
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from triosmtp import DISCARD, Policy, Reject, Session
from triosmtp.config import TargetSettings
from triosmtp.delivery import (
    DELIVERED,
    Delivery,
    DeliveryTransaction,
    RecipientResult,
    TargetContext,
    TargetHealth,
    parse_delivery,
)
from triosmtp.event import MessageAccepted, MessageRefused, Refused
from triosmtp.message import Envelope, Message, Origin, Recipient
from triosmtp.message.header_edits import HeaderEdits
from triosmtp.message.spool import Body
from triosmtp.policy import Done
from triosmtp.server import target_factories
from triosmtp.server.session.dispatch import reply_to_results
from triosmtp.server.session.transaction import Transaction
from triosmtp.smtp import Address, Reply, parse_path
from triosmtp.testing import MemoryServer, open_memory_server

BODY = b"Subject: x\r\n\r\nx\r\n"
LATER = RecipientResult(451, "4.2.1", "Mailbox busy", "busy")
NEVER = RecipientResult(550, "5.1.1", "No such user", "unknown")
SAVED = RecipientResult(250, "2.6.0", "Saved as 7F")
MOVED = RecipientResult(251, "", "Will forward")
ODD = RecipientResult(221, "2.0.0", "Bye")


class Hop(Delivery):
    """A target that answers as the local part of a recipient says, at RCPT or after the body."""

    verifies = True
    splits = True

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.origins: list[Origin] = []
        self.contexts: list[str | None] = []
        self.recovered: set[str] = set()

    async def deliver(self, message: Message) -> None:
        raise NotImplementedError

    def begin(self, envelope: Envelope, origin: Origin) -> DeliveryTransaction:
        self.log.append(f"{self.name} begin <{envelope.sender}>")
        self.origins.append(origin)
        return HopTransaction(self)

    def answer(self, recipient: Recipient, when: str) -> RecipientResult:
        word = recipient.address.local_part
        if word in self.recovered:
            return DELIVERED
        if word == f"bug-{when}":
            raise RuntimeError("a bug")
        said = {f"saved-{when}": SAVED, f"moved-{when}": MOVED, f"odd-{when}": ODD}
        return {f"later-{when}": LATER, f"never-{when}": NEVER, **said}.get(word, DELIVERED)

    def __str__(self) -> str:
        return self.name


class ProbedHop(Hop):
    """A hop that can be unavailable."""

    health: TargetHealth

    async def probe(self) -> str:
        return self.health.reason


class HopTransaction(DeliveryTransaction):
    def __init__(self, hop: Hop) -> None:
        self.hop = hop

    async def verify(self, recipient: Recipient) -> RecipientResult:
        self.hop.log.append(f"{self.hop.name} verify {recipient}")
        return self.hop.answer(recipient, "rcpt")

    async def deliver_each(self, message: Message) -> Sequence[RecipientResult]:
        recipients = message.envelope.recipients
        self.hop.contexts.append(message.message_variables.get("deliver_to"))
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

    async def send(self, *recipients: str, sender: str = "a@far.example", body: bytes = BODY) -> list[str]:
        """Send one message; return the replies to RCPT and to the end of data."""
        client = self.server.connect()
        await client.read()
        await client.command("EHLO client.example")
        await client.command(f"MAIL FROM:<{sender}>")
        replies = [await client.command(f"RCPT TO:<{each}>") for each in recipients]
        if any(reply.code < 300 for reply in replies):
            await client.command("DATA")
            await client.send(body + b".\r\n")
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
        if "/hop" not in address:
            return parse_delivery(address)
        if "probed" in address:
            hops[target.name] = hop = ProbedHop(target.name, log)
            hop.health = context.health
        return hops.setdefault(target.name, Hop(target.name, log))

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
            ("target:hop", "hop: unknown"),
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


@pytest.mark.parametrize(
    ("recipients", "replies"),
    [
        (["moved-rcpt@example.com"], ["251 Will forward", "250 2.0.0 Ok: queued"]),
        (["odd-rcpt@example.com"], ["250 2.0.0 Bye", "250 2.0.0 Ok: queued"]),
        (["saved-body@example.com"], ["250 2.1.5 Recipient ok", "250 2.6.0 Saved as 7F"]),
        (["moved-body@example.com"], ["250 2.1.5 Recipient ok", "251 Will forward"]),
        (["odd-body@example.com"], ["250 2.1.5 Recipient ok", "250 2.0.0 Bye"]),
        (["saved-body@example.com"] * 2, ["250 2.1.5 Recipient ok"] * 2 + ["250 2.6.0 Saved as 7F"]),
        (["saved-body@example.com", "u@example.com"], ["250 2.1.5 Recipient ok"] * 2 + ["250 2.0.0 Ok: queued"]),
        (["saved-body@copied.example.com"], ["250 2.1.5 Recipient ok", "250 2.6.0 Saved as 7F"]),
    ],
)
async def test_positive_answers_of_a_target_are_those_of_the_client(
    monkeypatch: pytest.MonkeyPatch, recipients: list[str], replies: list[str]
) -> None:
    """If recipients have different ones, the reply is that of the server; a copy has no part in it."""
    copies = 'Deliver_To = hop Domain "copied.example.com" { Deliver_To = ( hop other ) }'
    async with dispatched(monkeypatch, copies) as at:
        found = await at.send(*recipients)
    assert [each[: len(reply)] for each, reply in zip(found, replies, strict=True)] == replies


class Wording(Policy):
    """Word the positive replies to RCPT and to the end of data."""

    async def validate_rcptto(self, session: Session, recipient: object, parameters: object) -> None:
        session.accept_reply = Reply(250, "by policy", "2.1.5")

    async def validate_data_spool(self, session: Session, message: Message) -> None:
        session.accept_reply = Reply(250, "by policy", "2.6.0")


async def test_a_policy_words_replies_before_a_target_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async with dispatched(monkeypatch, policy=Wording()) as at:
        for name in ("saved-rcpt", "saved-body"):
            assert await at.send(f"{name}@example.com") == ["250 2.1.5 by policy", "250 2.6.0 by policy"]


async def test_the_transaction_is_freed_without_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    async with dispatched(monkeypatch, policy=Wording()) as at:
        gc.collect()
        before = [each for each in gc.get_objects() if isinstance(each, Transaction)]  # of other tests
        gc.disable()
        try:
            await at.send("saved-body@example.com")
            assert [each for each in gc.get_objects() if isinstance(each, Transaction)] == before
        finally:
            gc.enable()


async def test_a_message_that_a_target_took_ends_the_count_of_refused_recipients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with dispatched(monkeypatch, "Max_Refused_Recipients = 2 Deliver_To = hop") as at:
        client = at.server.connect()
        await client.read()
        await client.command("EHLO client.example")
        for _ in range(3):
            await client.command("MAIL FROM:<a@far.example>")
            replies = [await client.command(f"RCPT TO:<{each}@example.com>") for each in ("never-rcpt", "saved-body")]
            assert [reply.code for reply in replies] == [550, 250]
            await client.command("DATA")
            await client.send(BODY + b".\r\n")
            assert (await client.read()).code == 250
        await client.command("QUIT")


async def test_a_recipient_that_is_refused_here_is_never_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuse(Policy):
        async def validate_rcptto(self, session: Session, recipient: Address, parameters: object) -> None:
            if recipient.local_part == "spam":
                raise Reject(550, "5.7.1", "no")

    async with dispatched(monkeypatch, policy=Refuse()) as at:
        replies = await at.send("spam@example.com", "u@relay.example")
    assert [reply[:9] for reply in replies] == ["550 5.7.1", "550 5.7.1"]
    assert at.log == []


@pytest.mark.parametrize("reason", ["unknown", "hop: unknown"])
async def test_the_reason_of_a_refused_recipient_names_its_target_once(
    monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(f"{__name__}.NEVER", evolve(NEVER, reason=reason))
    async with dispatched(monkeypatch) as at:
        await at.send("never-rcpt@example.com")
        (refused,) = (event for event in at.server.events if isinstance(event, Refused))
    assert (refused.decided_by, refused.reason) == ("target:hop", "hop: unknown")


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


async def test_each_target_has_its_choice_in_the_message_context(monkeypatch: pytest.MonkeyPatch) -> None:
    class ChooseEach(Policy):
        async def validate_data_spool(self, session: Session, message: Message) -> None:
            session.message_variables.update(deliver_to="other", colour="red")

        async def validate_data_spool_each_rcpt(self, session: Session, message: Message, recipient: Recipient) -> None:
            seen.append(session.message_variables["deliver_to"])
            match recipient.address.local_part:
                case "back":
                    del session.message_variables["deliver_to"]
                case "hop":
                    session.message_variables["deliver_to"] = "hop"

    seen: list[str] = []
    async with dispatched(monkeypatch, policy=ChooseEach()) as at:
        names = ("u", "back", "hop", "v", "back2")
        assert (await at.send(*(f"{name}@example.com" for name in names)))[-1].startswith("250 ")
        [accepted] = [event for event in at.server.events if isinstance(event, MessageAccepted)]
    assert seen == ["other"] * 5
    assert [line for line in at.log if "deliver" in line] == [
        "other deliver u@example.com v@example.com back2@example.com",
        "hop deliver back@example.com",
        "hop deliver hop@example.com",
    ]
    assert (at.hops["other"].contexts, at.hops["hop"].contexts) == (["other"], [None, "hop"])
    assert accepted.message_variables["deliver_to"] == "other"


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


@pytest.mark.parametrize(
    ("recipients", "answers"),
    [
        (["u@example.com", "v@example.com"], ("hop: 250 2.0.0 Saved",)),
        (
            ["u@example.com", "later-body@example.com"],
            ("hop: u@example.com: 250 2.0.0 Saved", "hop: later-body@example.com: busy"),
        ),
        (["later-body@example.com"], ()),  # the reason has it
    ],
)
async def test_the_answers_of_targets_are_in_the_event(
    recipients: list[str], answers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    plain = Hop.answer

    def answer(self: Hop, recipient: Recipient, when: str) -> RecipientResult:
        result = plain(self, recipient, when)
        return RecipientResult(250, answer="250 2.0.0 Saved") if result.is_delivered else result

    monkeypatch.setattr(Hop, "answer", answer)
    async with dispatched(monkeypatch) as at:
        await at.send(*recipients)
        [event] = [each for each in at.server.events if isinstance(each, MessageAccepted | MessageRefused)]
    assert event.answers == answers


async def test_a_target_that_does_not_measure_its_answers_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    options = 'Deliver_To = ( "discard:" probed ) Delivery "probed" { Deliver_To = "maildir:/hop-probed" }'
    async with dispatched(monkeypatch, options) as at:
        assert (await at.send("u@example.com", "v@example.com"))[-1].startswith("250 ")
        states = {each.name: each for each in at.server.service.profiles.targets.states()}
    assert states["discard:"].answers == states["probed"].answers == {"2xx": 2}
    assert states["discard:"].latency is not None
    assert states["probed"].latency is None  # it would report that itself


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
        assert (await at.send("u@example.com"))[-1] == "451 4.3.0 Temporary failure, please try again later"


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
            Reply(451, "1 of 3 recipients are to be tried again: Mailbox busy", "4.2.1"),
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


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a state folder of the test."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state"


async def test_a_retry_goes_to_the_rest_alone(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    sent = ("u@example.com", "later-body@example.com", "v@other.example.com")
    async with dispatched(monkeypatch) as at:
        assert (await at.send(*sent))[-1] == "451 4.2.1 1 of 3 recipients are to be tried again: Mailbox busy"
        assert (await at.send(*sent))[-1].startswith("451 4.2.1 1 of 3")
        at.hops["hop"].recovered.add("later-body")
        assert (await at.send(*sent))[-1].startswith("250 2.0.0 Ok")
        assert (await at.send(*sent))[-1].startswith("250 2.0.0 Ok")
        delivered = [line for line in at.log if "deliver" in line]
    assert delivered == [
        "hop deliver u@example.com later-body@example.com",
        "other deliver v@other.example.com",
        "hop deliver later-body@example.com",
        "hop deliver later-body@example.com",
        "hop deliver later-body@example.com",  # it was never remembered: only a client that got 451 tries again
    ]
    assert (state / "remembered_recipients.sqlite3").exists()


async def test_a_message_that_differs_in_one_octet_or_in_its_sender_is_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with dispatched(monkeypatch) as at:
        await at.send("u@example.com", "later-body@example.com")
        await at.send("u@example.com", body=BODY + b"\r\n")
        await at.send("u@example.com", sender="b@far.example")
        await at.send("u@example.com")
        delivered = [line for line in at.log if "deliver" in line]
    assert delivered[1:] == ["hop deliver u@example.com"] * 2


async def test_it_is_the_message_as_the_client_sent_it_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stamp(Policy):
        """Change each message in another way."""

        count = 0

        async def validate_data_spool(self, session: Session, message: Message) -> None:
            self.count += 1
            edits = HeaderEdits()
            edits.prepend("X-Count", str(self.count))
            body, message.body = message.body, await edits.apply(message.body)
            body.close()

    async with dispatched(monkeypatch, policy=Stamp()) as at:
        for _ in range(2):
            assert (await at.send("u@example.com", "later-body@example.com"))[-1][:3] == "451"
        delivered = [line for line in at.log if "deliver" in line]
    assert delivered == [
        "hop deliver u@example.com later-body@example.com",
        "hop deliver later-body@example.com",
    ]


async def test_a_copy_that_fails_does_not_double_the_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("in the way")
    async with dispatched(monkeypatch, f"Deliver_To = ( hop 'maildir:{tmp_path}/copy' )") as at:
        assert (await at.send("u@example.com"))[-1] == "451 4.3.0 Temporary failure, please try again later"
        (reason,) = (event.reason for event in at.server.events if isinstance(event, MessageRefused))
        assert "File exists" in reason
        (tmp_path / "copy").unlink()
        assert (await at.send("u@example.com"))[-1][:3] == "250"
        assert [line for line in at.log if "deliver" in line] == ["hop deliver u@example.com"]
        assert len(list((tmp_path / "copy/new").iterdir())) == 1


async def test_without_the_file_results_are_not_mixed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/dev/null/state")
    async with dispatched(monkeypatch) as at:
        replies = await at.send("u@example.com", "v@example.com", "w@other.example.com")
    assert [reply[:9] for reply in replies] == ["250 2.1.5", "452 4.5.3", "452 4.5.3", "250 2.0.0"]
    assert "remembered_recipients.sqlite3" in caplog.text


async def test_a_session_that_is_cancelled_between_two_targets_remembers_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with dispatched(monkeypatch, "Deliver_To = ( hop other )") as at:
        hanging = trio.Event()

        async def hang(_self: object, _message: Message) -> Sequence[RecipientResult]:
            hanging.set()
            await trio.sleep_forever()
            raise AssertionError

        with monkeypatch.context() as patched:
            patched.setattr(HopTransaction, "deliver_each", _unless("other", hang))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ignoring_the_end, at.send, "u@example.com")
                await hanging.wait()
                for session in tuple(at.server.service.running):
                    session.expire()
        assert (await at.send("u@example.com"))[-1][:3] == "250"
        delivered = [line for line in at.log if "deliver" in line]
    assert delivered == ["hop deliver u@example.com", "other deliver u@example.com"]


async def test_recipients_with_changes_of_their_own_get_a_message_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Tag(Policy):
        async def validate_data_spool_each_rcpt(self, session: Session, message: Message, recipient: Recipient) -> None:
            word = recipient.address.local_part
            if word != "plain":
                message.edits_of(recipient).prepend("X-Tag", word[0])
            if word == "old":
                message.replace_recipient(recipient, parse_path(b"<new@example.com>", utf8=False, forward=True))

    text = f"""
        Relay_Domains = ( "example.com" ) Deliver_To = "maildir:{tmp_path}/in"
        ESMTP_Listener {{ Listen "127.0.0.1:2525" {{ }} }}
    """
    async with open_memory_server(text, policy=Tag(), use_deliver_to=True) as server:
        sent = [f"{word}@example.com" for word in ("plain", "a1", "old", "plain", "a2")]
        assert (await Dispatched(server, [], {}).send(*sent))[-1][:3] == "250"
    found = sorted(path.read_bytes() for path in (tmp_path / "in/new").iterdir())
    seen = [
        (re.findall(rb"^Delivered-To: (.*)$", each, re.MULTILINE), re.findall(rb"^X-Tag: (.*)$", each, re.MULTILINE))
        for each in found
    ]
    assert sorted(seen) == [
        ([b"a1@example.com", b"a2@example.com"], [b"a"]),
        ([b"new@example.com"], [b"o"]),
        ([b"plain@example.com", b"plain@example.com"], []),
    ]
    assert all(each.index(b"Received:") < each.index(b"Subject: x") for each in found)


async def test_a_change_that_cannot_be_made_is_a_temporary_error_for_its_recipient(tmp_path: Path) -> None:
    class Break(Policy):
        async def validate_data_spool_each_rcpt(self, session: Session, message: Message, recipient: Recipient) -> None:
            if recipient.address.local_part == "v":
                message.edits_of(recipient).prepend("X-Tag", "1")
                message.edits_of(recipient).replace_body(Body(b""))
                message.edits_of(recipient).new_body.close()  # type: ignore[union-attr]

    text = f"""
        Relay_Domains = ( "example.com" ) Deliver_To = "maildir:{tmp_path}/in"
        ESMTP_Listener {{ Listen "127.0.0.1:2525" {{ }} }}
    """
    async with open_memory_server(text, policy=Break(), use_deliver_to=True) as server:
        for _ in range(2):
            reply = (await Dispatched(server, [], {}).send("u@example.com", "v@example.com"))[-1]
            assert reply == "451 4.3.0 1 of 2 recipients are to be tried again: Local error in processing"
    assert len(list((tmp_path / "in/new").iterdir())) == 1


def _unless(name: str, hang: Any) -> Any:
    real = HopTransaction.deliver_each

    async def deliver_each(self: HopTransaction, message: Message) -> Sequence[RecipientResult]:
        return await (hang if self.hop.name == name else real)(self, message)

    return deliver_each


async def _ignoring_the_end(send: Any, *recipients: str) -> None:
    with suppress(EOFError, trio.BrokenResourceError):
        await send(*recipients)


async def test_while_the_usual_target_is_not_available_new_sessions_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = """
        Deliver_To = "probed" Delivery "probed" { Deliver_To = "maildir:/hop-probed" Delivery_Grace = 0.001 }
        Delivery "elsewhere" { Deliver_To = "maildir:/hop-probed-too" Delivery_Grace = 0.001 }
        Domain "elsewhere.example.com" { Deliver_To = "elsewhere" }
    """
    async with dispatched(monkeypatch, text) as at:
        usual, elsewhere = (at.hops[name] for name in ("probed", "elsewhere"))
        assert isinstance(usual, ProbedHop)
        assert isinstance(elsewhere, ProbedHop)
        elsewhere.health.failed("it refuses connections")
        await trio.sleep(0.002)
        assert elsewhere.health.is_down
        assert (await at.send("u@example.com"))[-1][:3] == "250"  # a target of some recipients alone
        usual.health.failed("the certificate is for another name")
        await trio.sleep(0.002)
        banner = await at.server.connect().read()
        assert str(banner) == "421 Mail cannot be accepted for now, try again later"
        [refused] = [event for event in at.server.events if isinstance(event, Refused)]
        assert refused.reason == "probed is not available: the certificate is for another name"
        profiles = at.server.service.profiles
        assert profiles.default_targets() == {"probed"}
        down = {state.name for state in profiles.targets.states() if not state.available}
        assert down == {"probed", "elsewhere"}
        usual.health.succeeded()
        assert (await at.server.connect().read()).code == 220


async def test_only_policy_sets_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    options = """
        Deliver_To = hop  Context = [ deliver_to = "other" ]
        SMTP_Extensions = ( "XSETCONTEXT" )
    """
    async with dispatched(monkeypatch, options, policy=Choose("", "")) as at:
        client = at.server.connect()
        await client.read()
        await client.command("EHLO client.example")
        assert (await client.command("XSETCONTEXT deliver_to=other")).code == 250
        assert (await client.message("a@far.example", ["u@example.com"], BODY)).code == 250
        assert (await client.command("XSETCONTEXT deliver_to=nonsense")).code == 250
        assert (await client.message("a@far.example", ["u@example.com"], BODY)).code == 250
    assert [line for line in at.log if "deliver" in line] == ["hop deliver u@example.com"] * 2


@pytest.mark.parametrize(("answer", "code"), [(None, "451"), (DISCARD, "250")])
async def test_a_message_without_recipients_is_not_lost_silently(
    answer: Done | None, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Remove(Policy):
        async def validate_data_spool(self, session: Session, message: Message) -> Done | None:
            message.envelope.recipients.clear()
            return answer

    for options in ("Deliver_To = hop", "Deliver_To = 'discard:'"):
        async with dispatched(monkeypatch, options, policy=Remove()) as at:
            assert (await at.send("u@example.com"))[-1][:3] == code
        assert not [line for line in at.log if "deliver" in line]
