"""Sends messages through HAProxy, each until it is answered 250, and looks for them at the far end."""

import re
import ssl
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import trio
from attrs import define, field, frozen

from triosmtp.smtp import ReplyError
from triosmtp.testing import Answer, ScriptedClient

from .service import FleetError
from .site import DOMAIN, HOST

__all__ = ["RECIPIENTS", "Doubles", "Report", "Sender", "explain_doubles", "make_report", "read_redeliveries"]

RECIPIENTS = (f"joe@{DOMAIN}", f"ann@{DOMAIN}")
"""Those of each message."""

_SENDERS = 16
_ATTEMPT = 60.0
_GIVE_UP = 300.0
"""Seconds after which a message that was never answered 250 ends the audit."""
_PAUSE = 0.1
_EHLO = "EHLO client.example.net"
_TOKEN = re.compile(rb"^X-Token: (\d+)\r?$", re.MULTILINE)
_ID = re.compile(rb"\bid (mx\d-[0-9a-zA-Z-]+)")
_RECIPIENT = re.compile(rb"^Delivered-To: <?([^>\s]+)", re.MULTILINE)
_AGAIN = re.compile(r"^.*: mail\.in\.(\S+): attempt \d+, no result is recorded of (.*)$", re.MULTILINE)
"""The line that a consumer logs if the recipients may have the message from an attempt that was cut off."""


@define(eq=False)
class Sender:
    """Sends messages, and keeps the record of what they were answered."""

    port: int
    authority: Path
    messages: int
    accepted: set[int] = field(init=False, factory=set)
    uncertain: Counter[int] = field(init=False, factory=Counter)
    """Attempts that sent the message and received no 250, by message: it may be stored."""
    attempts: int = field(init=False, default=0)
    serials: set[str] = field(init=False, factory=set)
    """Serial numbers of the certificates that nodes had."""
    _problem: str = field(init=False, default="")
    _numbers: Iterator[int] = field(init=False)
    _context: ssl.SSLContext = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._numbers = iter(range(self.messages))
        self._context = ssl.create_default_context(cafile=str(self.authority))

    async def send_all(self) -> None:
        """Send all messages, sixteen at the same time."""
        async with trio.open_nursery() as nursery:
            for _ in range(min(_SENDERS, self.messages)):
                nursery.start_soon(self._send_some)

    async def _send_some(self) -> None:
        step = max(1, self.messages // 20)
        for number in self._numbers:
            with trio.move_on_after(_GIVE_UP):
                while not await self._attempt(number):  # noqa: ASYNC110 - the time between two attempts
                    await trio.sleep(_PAUSE)
                self.accepted.add(number)
            if number not in self.accepted:
                raise FleetError(f"message {number} is not accepted: {self._problem}")
            if len(self.accepted) % step == 0:
                print(f"{len(self.accepted)} of {self.messages} messages answered 250", flush=True)

    async def _attempt(self, number: int) -> bool:
        """Send a message, and return whether it was answered 250."""
        self.attempts += 1
        try:
            with trio.fail_after(_ATTEMPT):
                stream = await trio.open_tcp_stream("127.0.0.1", self.port)
                client = ScriptedClient(stream)
                try:
                    return await self._converse(client, number)
                finally:
                    await client.aclose()
        except (OSError, EOFError, trio.BrokenResourceError, trio.TooSlowError, ReplyError) as error:
            self._problem = repr(error)
            return False

    async def _converse(self, client: ScriptedClient, number: int) -> bool:
        if not self._is_good(await client.read()) or not self._is_good(await client.command(_EHLO)):
            return False
        if not self._is_good(await client.starttls(self._context, HOST)):
            return False
        self._note_certificate(client)
        recipients = [f"RCPT TO:<{each}>" for each in RECIPIENTS]
        for line in (_EHLO, "MAIL FROM:<me@example.net>", *recipients, "DATA"):
            if not self._is_good(await client.command(line)):
                return False
        self.uncertain[number] += 1
        body = f"Subject: message {number}\r\nX-Token: {number}\r\n\r\n" + "A line of the message.\r\n" * 80
        await client.send(body.encode() + b".\r\n")
        accepted = self._is_good(await client.read())
        self.uncertain[number] -= accepted
        return accepted

    def _is_good(self, answer: Answer) -> bool:
        self._problem = str(answer)
        return answer.code < 400

    def _note_certificate(self, client: ScriptedClient) -> None:
        assert isinstance(client.stream, trio.SSLStream)
        certificate = client.stream.getpeercert()
        assert certificate is not None
        self.serials.add(str(certificate["serialNumber"]))


@frozen(kw_only=True)
class Report:
    """Counts of messages: accepted, stored, delivered, lost, doubled."""

    messages: int
    attempts: int
    uncertain: int
    accepted: int
    expected: int
    """Messages at the far end, one for each recipient."""
    found: int
    lost: tuple[tuple[int, str], ...]
    """Messages that were answered 250, and the recipients that do not have them."""
    unmarked: int
    """Messages that the policy client did not see."""
    stored: int
    stored_twice: tuple[str, ...]
    """Ids that are in the stream more than once."""
    doubles: int
    """Further copies of messages at the far end."""
    without_reply: int
    """Doubles that are explained: an attempt had been answered without 250, so the client sent it again."""
    redelivered: int
    """Doubles that are explained: a consumer died, and the next one found no result of this recipient."""
    unexplained: int
    certificates: int

    @property
    def is_right(self) -> bool:
        """Whether nothing is lost, and every double is explained."""
        return not (self.lost or self.stored_twice or self.unexplained or self.unmarked)

    def __str__(self) -> str:
        return (
            f"audit: {self.accepted} of {self.messages} messages answered 250 in {self.attempts} attempts, "
            f"{self.uncertain} of them sent without a 250\n"
            f"audit: {self.stored} ids in the stream, {len(self.stored_twice)} of them twice\n"
            f"audit: {self.found} of {self.expected} in the Maildir, one for each recipient, {len(self.lost)} lost, "
            f"{self.unmarked} without policy\n"
            f"audit: {self.doubles} doubles: {self.without_reply} because the sender received no 250, "
            f"{self.redelivered} because a consumer died, {self.unexplained} unexplained\n"
            f"audit: {self.certificates} certificates seen"
        )


@frozen
class Doubles:
    """Further copies of messages at the far end, by what explains them."""

    without_reply: int
    """An attempt had been answered without 250, so the client sent it again, and the copies have different ids."""
    redelivered: int
    """A consumer died, and the next one found no result of this recipient; the copies have one id."""
    unexplained: int


def explain_doubles(
    copies: Mapping[tuple[int, str], Mapping[str, int]],
    uncertain: Mapping[int, int],
    again: Mapping[tuple[str, str], int],
) -> Doubles:
    """Return what explains each double.

    ``copies`` has how often each id was found, by message and recipient.  ``uncertain`` has the attempts of a message
    that received no 250.  ``again`` has how often a consumer took an id again without a result of a recipient.
    """
    without_reply = unexplained = redelivered = 0
    for (number, recipient), ids in copies.items():
        explained = min(len(ids) - 1, uncertain.get(number, 0))
        without_reply += explained
        unexplained += len(ids) - 1 - explained
        for identity, count in ids.items():
            explained = min(count - 1, again.get((identity, recipient), 0))
            redelivered += explained
            unexplained += count - 1 - explained
    return Doubles(without_reply, redelivered, unexplained)


def read_redeliveries(logs: Iterable[str]) -> Counter[tuple[str, str]]:
    """Return how often consumers took a message again without a result of a recipient, by id and recipient."""
    found: Counter[tuple[str, str]] = Counter()
    for log in logs:
        for identity, recipients in _AGAIN.findall(log):
            found.update((identity, each.strip("'")) for each in recipients.split(", "))
    return found


def make_report(
    sender: Sender, maildir: Path, stored: Mapping[str, int], again: Mapping[tuple[str, str], int], excuses: int
) -> Report:
    """Compare what the senders know with the Maildir and the stream.

    A copy with the same id is explained if a consumer took the message ``again`` without a result of the recipient.
    ``excuses`` is the number of such copies that deaths of consumers can explain at most.
    """
    copies, unmarked = _read_copies(maildir)
    doubles = explain_doubles(copies, sender.uncertain, again)
    beyond = max(0, doubles.redelivered - excuses)
    return Report(
        messages=sender.messages,
        attempts=sender.attempts,
        uncertain=sender.uncertain.total(),
        accepted=len(sender.accepted),
        expected=sender.messages * len(RECIPIENTS),
        found=len(copies),
        lost=tuple(sorted({(each, to) for each in sender.accepted for to in RECIPIENTS} - copies.keys())),
        unmarked=unmarked,
        stored=len(stored),
        stored_twice=tuple(subject for subject, count in stored.items() if count > 1),
        doubles=sum(ids.total() - 1 for ids in copies.values()),
        without_reply=doubles.without_reply,
        redelivered=doubles.redelivered - beyond,
        unexplained=doubles.unexplained + beyond,
        certificates=len(sender.serials),
    )


def _read_copies(maildir: Path) -> tuple[dict[tuple[int, str], Counter[str]], int]:
    """Return the ids of the copies by message and recipient, and how many have not seen the policy client."""
    copies: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    unmarked = 0
    for path in maildir.glob("[nc][eu][wr]/*"):
        content = path.read_bytes()
        token, identity, recipient = _TOKEN.search(content), _ID.search(content), _RECIPIENT.search(content)
        if token is None or identity is None or recipient is None:
            continue  # sent by somebody else
        copies[int(token[1]), recipient[1].decode()][identity[1].decode()] += 1
        unmarked += b"X-Client: " not in content
    return copies, unmarked
