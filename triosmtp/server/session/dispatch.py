"""Takes one message to its targets: recipients are verified at RCPT, and the whole is delivered by a plan.

The plan is made when policy has spoken.  It says for each target, and for each variant of the message, which recipients
it has.  A list of targets gets copies, in its order.  The results of the first are those of the client, and only
recipients that it took are delivered to the next one.  Then one reply is made of the results of all recipients.
"""

import logging
from collections.abc import Sequence
from typing import Final

from attrs import evolve

from triosmtp.delivery import DeliveryTransaction, RecipientResult
from triosmtp.message import Envelope, Message, Origin, Recipient
from triosmtp.module_loader import is_failure
from triosmtp.policy import Session
from triosmtp.server.profile import Profile
from triosmtp.server.routing import Target, Targets
from triosmtp.server.session.refusal import Refusal
from triosmtp.smtp import Hello, Reply

__all__ = ["Dispatch", "reply_to_results"]

_log = logging.getLogger("triosmtp.delivery")

_MAX_TARGETS: Final = 4
"""Lists of targets that the recipients of one message may have."""
_FAILED: Final = RecipientResult(451, "4.3.0", "Local error in processing")


class Dispatch:
    """One message on its way to its targets."""

    def __init__(self, session: Session, profile: Profile, envelope: Envelope, hello: Hello | None) -> None:
        self._session = session
        self._profile = profile
        self._envelope = envelope
        self._hello = hello
        self._origin: Origin | None = None
        self._routes: dict[Targets, None] = {}  # of the recipients so far
        self._transactions: dict[Target, DeliveryTransaction] = {}

    def close(self) -> None:
        """End all transactions at targets.  May be called again."""
        while self._transactions:
            target, transaction = self._transactions.popitem()
            try:
                transaction.close()
            except Exception:  # noqa: BLE001 - the reply to the client does not depend on it
                _log.exception("%s: closing a transaction failed", target)

    # At RCPT

    async def verify(self, recipient: Recipient, chosen: str | None) -> None:
        """Ask the first target of a recipient about it.

        :raises Refusal: if the target refuses it, or if the message cannot have it beside its other recipients.
        """
        routing, targets = self._profile.routing, self._find(recipient, chosen)
        if targets not in self._routes and len(self._routes) >= _MAX_TARGETS:
            raise Refusal(
                Reply(452, "Too many targets for one message", "4.5.3"), "delivery", f"{recipient}: {targets}"
            )
        target = targets[0]
        if routing is not None and routing.verifies(target, recipient.address):
            result = await self._verify(target, recipient)
            if not result.is_delivered:
                raise _refusal(evolve(result, reason=f"{target}: {result.reason or result.text}"))
        self._routes[targets] = None

    async def _verify(self, target: Target, recipient: Recipient) -> RecipientResult:
        try:
            return await self._transaction(target).verify(recipient)
        except BaseException as error:  # noqa: BLE001 - a cancellation is raised again
            return self._failed(target, error)

    def _find(self, recipient: Recipient, chosen: str | None) -> Targets:
        """Return the targets of a recipient.

        :raises Refusal: if policy chose a Delivery that does not exist.
        """
        routing = self._profile.routing
        targets = None
        if routing is not None:
            targets = routing.find(recipient.address, chosen)
        if targets is None:
            reason = f"deliver_to = {chosen!r}: there is no such Delivery"
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
                name=session.variables.get("xclient_name", ""),
                helo="" if hello is None else hello.domain,
                extended=hello is not None and hello.verb == "EHLO",
                auth_mechanism="" if auth is None else auth.mechanism,
                auth_user="" if auth is None else auth.user,
                tls=session.tls,
            )
        return self._origin

    # After the body

    async def deliver(self, message: Message, chosen: str | None) -> Refusal | None:
        """Deliver ``message`` by its plan; return the refusal if not all recipients have it."""
        results: dict[int, RecipientResult] = {}
        try:
            plan = self._plan(message, chosen)
        except Refusal as refusal:
            return refusal.without_traceback()
        for targets, numbers in plan.items():
            results |= await self._deliver_copies(message, targets, numbers)
        return reply_to_results([results[number] for number in sorted(results)])

    def _plan(self, message: Message, chosen: str | None) -> dict[Targets, list[int]]:
        """Return the numbers of the recipients that each list of targets has."""
        plan: dict[Targets, list[int]] = {}
        for number, recipient in enumerate(message.envelope.recipients):
            plan.setdefault(self._find(recipient, chosen), []).append(number)
        return plan

    async def _deliver_copies(
        self, message: Message, targets: Targets, numbers: list[int]
    ) -> dict[int, RecipientResult]:
        results: dict[int, RecipientResult] = {}
        left = numbers
        for copy, target in enumerate(targets):
            found = await self._deliver_part(message, target, left)
            if copy:  # the client heard from the first target; a copy that fails is to be tried again
                found = [each if each.is_delivered else _deferred(each) for each in found]
            results |= zip(left, found, strict=True)
            left = [number for number, each in zip(left, found, strict=True) if each.is_delivered]
            if not left:
                break
        return results

    async def _deliver_part(self, message: Message, target: Target, numbers: list[int]) -> Sequence[RecipientResult]:
        """Deliver to those recipients of one target; return a result for each."""
        envelope, delivery = message.envelope, target.delivery
        recipients = [envelope.recipients[number] for number in numbers]
        part = evolve(message, envelope=evolve(envelope, recipients=recipients))
        if delivery.wants_origin:
            part.origin = self._origin_of_client()
        try:
            if delivery.verifies:
                results = await self._transaction(target).deliver_each(part)
            else:
                results = await delivery.deliver_each(part)
            if len(results) != len(recipients):
                raise RuntimeError(f"{target} returned {len(results)} results for {len(recipients)} recipients")
        except BaseException as error:  # noqa: BLE001 - a cancellation is raised again
            return [self._failed(target, error)] * len(recipients)
        return results

    def _failed(self, target: Target, error: BaseException) -> RecipientResult:
        """Return the result for an exception of a target; raise a cancellation again."""
        if not is_failure(error):
            raise error
        _log.error("session %s: %s failed: %r", self._session.id, target, error, exc_info=error)
        return evolve(_FAILED, reason=f"{target}: {error!r}")


def _deferred(result: RecipientResult) -> RecipientResult:
    if result.is_deferred:
        return result
    return RecipientResult(451, "4.3.0", "Temporary failure, please try again later", f"{result.code} {result.text}")


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
        text = f"{len(failed)} of {len(results)} recipients are to be tried again: {first.text}"
        return _refusal(RecipientResult(451, _of_class(4, first.enhanced), text, first.reason))
    text = f"{len(failed)} of {len(results)} recipients refused: {first.text}"
    return _refusal(RecipientResult(554, _of_class(5, first.enhanced), text, first.reason))


def _of_class(number: int, enhanced: str) -> str:
    return enhanced if enhanced.startswith(f"{number}.") else f"{number}.0.0"


def _refusal(result: RecipientResult) -> Refusal:
    return Refusal(Reply(result.code, result.text, result.enhanced), "delivery", result.reason or result.text)
