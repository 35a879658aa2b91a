"""Takes one message to its targets: recipients are verified at RCPT, and the whole is delivered by a plan.

The plan is made when policy has spoken.  It says for each target, and for each variant of the message, which recipients
it has.  A list of targets gets copies, in its order.  The results of the first are those of the client, and only
recipients that it took are delivered to the next one.  Then one reply is made of the results of all recipients.
"""

import hashlib
import logging
from collections.abc import Sequence
from contextlib import aclosing
from time import monotonic
from typing import TYPE_CHECKING, Final

import trio
from attrs import evolve, frozen

from triosmtp.delivery import DELIVERED, DeliveryTransaction, RecipientKey, RecipientResult, answer_lines, is_probed
from triosmtp.limits.peer_count import peer_key
from triosmtp.message import Envelope, Message, Origin, Recipient
from triosmtp.message.header_edits import HeaderEdits
from triosmtp.message.spool import Body, SpoolError, spool_limiter
from triosmtp.module_loader import is_failure
from triosmtp.policy import Session
from triosmtp.server.profile import Profile
from triosmtp.server.routing import Target, Targets
from triosmtp.server.session.refusal import Refusal
from triosmtp.smtp import Hello, Reply
from triosmtp.variables import DELIVER_TO

if TYPE_CHECKING:
    from triosmtp.delivery.remembered_recipients import RememberedRecipients

__all__ = ["Dispatch", "digest_of", "reply_to_results"]

_log = logging.getLogger("triosmtp.delivery")

_MAX_ROUTES: Final = 4
"""Lists of targets that the recipients of one message may have."""
_SHOWN: Final = 100
"""Characters of an unknown choice in logs."""
_REMEMBER_SECONDS: Final = 10.0
"""Seconds for remembering recipients when a session is cancelled."""
_ACCEPTED: Final = frozenset({250, 251, 252})
"""The positive replies to RCPT and to the end of data (RFC 5321, section 4.3.2)."""
_FAILED: Final = RecipientResult(451, "4.3.0", "Local error in processing")
_NO_SPACE: Final = RecipientResult(452, "4.3.1", "Insufficient system storage")
_HASHED_INLINE: Final = 64 * 1024
"""Octets that are hashed without a thread."""


@frozen(slots=True)
class _Part:
    """The recipients that get one variant of the message from one list of targets, by their numbers."""

    edits: HeaderEdits | None
    targets: Targets
    chosen: str | None
    """What policy chose: ``deliver_to`` in the message context of this part."""
    numbers: list[int]


class Dispatch:
    """One message on its way to its targets."""

    def __init__(self, session: Session, profile: Profile, envelope: Envelope, hello: Hello | None) -> None:
        self._session = session
        self._profile = profile
        self._envelope = envelope
        self._hello = hello
        self._origin: Origin | None = None
        self.reply: Reply | None = None
        """The answer of the targets that have the message, in their own words, if it is the same for all recipients."""
        self._parts = 0
        self._routes: dict[Targets, None] = {}  # of the recipients so far
        self._transactions: dict[Target, DeliveryTransaction] = {}
        self._may_remember = False  # until the file was usable once
        self._known: set[RecipientKey] = set()  # that have the message since an earlier attempt
        self._delivered: set[RecipientKey] = set()  # that have it now
        self._answers: list[tuple[str, str, str]] = []  # targets, recipients, and what the targets said

    def close(self) -> None:
        """End all transactions at targets.  May be called again."""
        while self._transactions:
            target, transaction = self._transactions.popitem()
            try:
                transaction.close()
            except Exception:  # noqa: BLE001 - the reply to the client does not depend on it
                _log.exception("%s: closing a transaction failed", target)

    # At RCPT

    async def verify(self, recipient: Recipient, chosen: str | None) -> Reply | None:
        """Ask the first target of a recipient about it; return its answer in its own words, if there are any.

        :raises Refusal: if the target refuses it, or if the message cannot have it beside its other recipients.
        """
        targets = self._find(recipient, chosen)
        if not await self._may_join(targets):
            reply = Reply(452, "Recipients of other targets first, send this one again", "4.5.3")
            raise Refusal(reply, "delivery", f"{recipient} does not share its targets")
        target, answer = targets[0], None
        if self._profile.routing.verifies(target, recipient.address):
            result = await self._verify(target, recipient)
            _count(target, result)
            if not result.is_delivered:
                # A recipient that does not exist is no failure of delivery.
                decided_by = "delivery" if result.is_deferred else f"target:{target}"
                reason = (result.reason or result.text).removeprefix(f"{target}: ")
                raise _refusal(evolve(result, reason=f"{target}: {reason}"), decided_by)
            answer = _reply_of(result)
        self._routes[targets] = None
        return answer

    async def _may_join(self, targets: Targets) -> bool:
        """Return whether a message may have one more recipient, of these targets.

        If results may differ, those that have the message must be remembered, so the file for that must be usable.
        """
        if not self._routes:
            return True
        if targets in self._routes and not targets[0].delivery.splits and not self._may_differ_later():
            return True
        if targets not in self._routes and len(self._routes) >= _MAX_ROUTES:
            return False
        if not self._may_remember:
            memory = self._profile.memory
            self._may_remember = memory is not None and await memory.is_usable()
        return self._may_remember

    def _may_differ_later(self) -> bool:
        """Return whether policies may still choose another target for one of the recipients."""
        profile = self._profile
        return "data_spool_each_rcpt" in profile.chain.phases and profile.routing.may_mix

    async def _verify(self, target: Target, recipient: Recipient) -> RecipientResult:
        try:
            return await self._transaction(target).verify(recipient)
        except BaseException as error:  # noqa: BLE001 - a cancellation is raised again
            return self._failed(target, error)

    def _find(self, recipient: Recipient, chosen: str | None) -> Targets:
        """Return the targets of a recipient.

        :raises Refusal: if policy chose a Delivery that does not exist.
        """
        targets = self._profile.routing.find(recipient.address, chosen)
        if targets is None:
            reason = f"deliver_to = {(chosen or '')[:_SHOWN]!r}: there is no such Delivery"
            _log.error("session %s: %s, replied 451", self._session.id, reason)
            raise Refusal(Reply(451, "Server configuration error", "4.3.5"), "delivery", reason)
        return targets

    def _transaction(self, target: Target) -> DeliveryTransaction:
        transaction = self._transactions.get(target)
        if transaction is None:
            transaction = self._transactions[target] = target.delivery.begin(self._envelope, self._origin_of_client())
        return transaction

    def _origin_of_client(self) -> Origin:
        if self._origin is None:
            session, hello, auth = self._session, self._hello, self._session.auth
            self._origin = Origin(
                session=session.id,
                listen=session.listener,
                peer=session.peer,
                address=session.peer_address,
                name="" if session.client_name == "unknown" else session.client_name,
                helo="" if hello is None else hello.domain,
                extended=hello is not None and hello.verb == "EHLO",
                auth_mechanism="" if auth is None else auth.mechanism,
                auth_user="" if auth is None else auth.user,
                tls=session.tls,
            )
        return self._origin

    # After the body

    async def deliver(self, message: Message, digest: bytes | None) -> Refusal | None:
        """Deliver ``message`` by its plan; return the refusal if not all recipients have it.

        ``digest`` is the SHA-256 of the message as the client sent it, or None if that is its body.

        :raises Refusal: if there is no plan.
        """
        plan = self._plan(message)
        results: dict[int, RecipientResult] = {}
        if self._profile.memory is not None:
            digest = await self._recall(self._profile.memory, message, plan, digest)
        try:
            for part in plan:
                results |= await self._deliver_part(message, part)
        except BaseException:
            with trio.move_on_after(_REMEMBER_SECONDS, shield=True):
                await self._remember(message, digest)
            raise
        found = [results[number] for number in sorted(results)]
        if any(result.is_deferred for result in found):
            await self._remember(message, digest)
        if len(set(found)) == 1 and found[0].is_delivered:
            self.reply = _reply_of(found[0])
        return reply_to_results(found)

    def _plan(self, message: Message) -> list[_Part]:
        """Return the parts: for each list of targets, and each variant of the message, the numbers of recipients.

        Parts differ also by what policy chose, which is in the message context of each.
        """
        recipients = message.envelope.recipients
        chosen = message.chosen_targets() if self._profile.chain.policies else [None] * len(recipients)
        targets = list(map(self._find, recipients, chosen))
        plan = []
        for edits, numbers in message.variants():
            by_targets: dict[tuple[Targets, str | None], list[int]] = {}
            for number in numbers:
                by_targets.setdefault((targets[number], chosen[number]), []).append(number)
            plan += [_Part(edits, *key, found) for key, found in by_targets.items()]
        return plan

    async def _deliver_part(self, message: Message, part: _Part) -> dict[int, RecipientResult]:
        message = _with_choice(message, part.chosen)
        if part.edits is None:
            return await self._deliver_copies(message, part)
        settings = self._profile.settings
        try:
            body = await part.edits.apply(message.body, settings.spool_directory, settings.spool_min_free)
        except (ValueError, SpoolError) as error:  # EditError is a ValueError
            _log.error("message %s: the changes for a recipient cannot be made: %s", message.id, error)
            result = _NO_SPACE if isinstance(error, SpoolError) else _FAILED
            return dict.fromkeys(part.numbers, evolve(result, reason=str(error)))
        try:
            return await self._deliver_copies(evolve(message, body=body), part)
        finally:
            body.close()

    async def _deliver_copies(self, message: Message, part: _Part) -> dict[int, RecipientResult]:
        results: dict[int, RecipientResult] = {}
        left = part.numbers
        for copy, target in enumerate(part.targets):
            found = await self._deliver_to_target(message, target, left)
            if copy:  # the answers of the first target are the client's, and a copy that fails is to be tried again
                results |= {number: _of_copy(each) for number, each in found.items() if not each.is_delivered}
            else:
                results = found
            left = [number for number in left if found[number].is_delivered]
            if not left:
                break
        return results

    async def _deliver_to_target(
        self, message: Message, target: Target, numbers: list[int]
    ) -> dict[int, RecipientResult]:
        """Deliver to those recipients of one target that do not have the message; return a result for each."""
        envelope, delivery = message.envelope, target.delivery
        keys = {number: _key(message, number, target) for number in numbers}
        results = dict.fromkeys(numbers, DELIVERED)
        new = [number for number in numbers if keys[number] not in self._known]
        if not new:
            return results
        copy = message
        if len(new) < len(envelope.recipients):
            recipients = [envelope.recipients[number] for number in new]
            copy = evolve(message, envelope=evolve(envelope, recipients=recipients))
        copy.part = self._parts
        self._parts += 1
        if delivery.wants_origin:
            copy.origin = self._origin_of_client()
        results |= zip(new, await self._results_of(target, copy), strict=True)
        for number in new:
            self._note_answer(target, envelope.recipients[number], results[number])
            if results[number].is_delivered:
                self._delivered.add(keys[number])
        return results

    def _note_answer(self, target: Target, recipient: Recipient, result: RecipientResult) -> None:
        _count(target, result)
        said = result.answer
        if not (said or result.is_delivered):
            said = result.reason or f"{result.code} {result.text}"
        if said:
            self._answers.append((target.name, str(recipient), said))

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers of targets to the message, for the log."""
        return answer_lines(self._answers)

    async def _results_of(self, target: Target, message: Message) -> Sequence[RecipientResult]:
        delivery, expected = target.delivery, len(message.envelope.recipients)
        began = monotonic()
        try:
            if delivery.verifies:
                results = await self._transaction(target).deliver_each(message)
            else:
                results = await delivery.deliver_each(message)
            if len(results) != expected:
                raise RuntimeError(f"{target} returned {len(results)} results for {expected} recipients")
        except BaseException as error:  # noqa: BLE001 - a cancellation is raised again
            return [self._failed(target, error)] * expected
        if not is_probed(delivery) and any(each.is_delivered for each in results):  # others report it themselves
            target.health.deliveries += 1
            target.health.delivery_seconds += monotonic() - began
        return results

    # What is remembered

    async def _recall(
        self, memory: "RememberedRecipients", message: Message, plan: list[_Part], digest: bytes | None
    ) -> bytes | None:
        """Look up who has the message since an earlier attempt; return the digest if it is known by then.

        :raises Refusal: if the message cannot be read.
        """
        keys = [_key(message, number, target) for part in plan for number in part.numbers for target in part.targets]
        found = await memory.find(keys)
        if found:
            try:
                digest = digest or await digest_of(message.body)
            except SpoolError as error:
                raise _refusal(evolve(_NO_SPACE, reason=str(error))) from None
            self._known = {key for key, messages in found.items() if digest in messages}
        return digest

    async def _remember(self, message: Message, digest: bytes | None) -> None:
        """Remember durably who has the message, for the next attempt of the client."""
        memory = self._profile.memory
        keys = self._delivered | self._known
        if memory is None or not keys:
            return
        session = self._session
        try:
            digest = digest or await digest_of(message.body)
        except SpoolError as error:
            _log.error("message %s: who has it is not remembered: %s", message.id, error)
            return
        peer = session.id if session.peer_address is None else str(peer_key(session.peer_address))
        if not await memory.remember(keys, digest, peer):
            _log.error(
                "message %s: who has it is not remembered: %d recipients may get it twice", message.id, len(keys)
            )

    def _failed(self, target: Target, error: BaseException) -> RecipientResult:
        """Return the result for an exception of a target; raise a cancellation again."""
        if not is_failure(error):
            raise error
        _log.error("session %s: %s failed: %r", self._session.id, target, error, exc_info=error)
        return evolve(_FAILED, reason=f"{target}: {error!r}")


async def digest_of(body: Body) -> bytes:
    """Return the SHA-256 of a body.

    :raises SpoolError: if its file cannot be read.
    """
    digest = hashlib.sha256()
    async with aclosing(body.chunks()) as chunks:
        async for chunk in chunks:
            if len(chunk) < _HASHED_INLINE:
                digest.update(chunk)
            else:
                await trio.to_thread.run_sync(digest.update, chunk, limiter=spool_limiter())
    return digest.digest()


def _with_choice(message: Message, chosen: str | None) -> Message:
    """Return the message as a part of the plan has it: with what policy chose in the message context."""
    context = message.message_variables
    if context.get(DELIVER_TO) == chosen:
        return message
    others = {key: value for key, value in context.items() if key != DELIVER_TO}
    return evolve(message, message_variables=others if chosen is None else {**others, DELIVER_TO: chosen})


def _key(message: Message, number: int, target: Target) -> RecipientKey:
    envelope = message.envelope
    return RecipientKey(str(envelope.sender), str(envelope.recipients[number]), target.name)


def _count(target: Target, result: RecipientResult) -> None:
    target.health.count(result.code)


def _of_copy(result: RecipientResult) -> RecipientResult:
    """Return the result for the client if a copy fails: its target's own words are for the log."""
    reason = result.reason or f"{result.code} {result.text}"
    return RecipientResult(451, "4.3.0", "Temporary failure, please try again later", reason)


def reply_to_results(results: Sequence[RecipientResult]) -> Refusal | None:
    """Return the one reply to the end of data for the results of all recipients; None if all have the message.

    If any recipient is to be tried again, so is the message.  If some were refused for good, the reply says how many.
    """
    failed = [each for each in results if not each.is_delivered]
    if not failed:
        return None
    first = next((each for each in failed if each.is_deferred), failed[0])
    if len(failed) == len(results) and len(set(failed)) == 1:
        return _refusal(first)
    if first.is_deferred:
        deferred = sum(each.is_deferred for each in failed)
        text = f"{deferred} of {len(results)} recipients are to be tried again: {first.text}"
        return _refusal(RecipientResult(451, _of_class(4, first.enhanced), text, first.reason))
    text = f"{len(failed)} of {len(results)} recipients refused: {first.text}"
    return _refusal(RecipientResult(554, _of_class(5, first.enhanced), text, first.reason))


def _reply_of(result: RecipientResult) -> Reply | None:
    """Return the positive answer of a target in its own words; None if it has none."""
    code = result.code if result.code in _ACCEPTED else 250  # others would mean something else to the client
    return Reply(code, result.text, result.enhanced or None) if result.text else None


def _of_class(number: int, enhanced: str) -> str:
    return enhanced if enhanced.startswith(f"{number}.") else f"{number}.0.0"


def _refusal(result: RecipientResult, decided_by: str = "delivery") -> Refusal:
    return Refusal(Reply(result.code, result.text, result.enhanced), decided_by, result.reason or result.text)
