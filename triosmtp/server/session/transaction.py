"""One mail transaction: from MAIL to the final reply.

It holds the current message and takes it from phase to phase: spool, policy, restrictions, delivery.  Each step may
refuse it.  The reply is 250 only after the delivery has returned.
"""

import logging
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime
from errno import ENOSPC
from functools import partial
from time import monotonic

from triosmtp.delivery import DeliveryError, answer_lines
from triosmtp.errors import Reject
from triosmtp.event import MessageAccepted, MessageRefused
from triosmtp.limits.spool_space import spool_folder
from triosmtp.message import Envelope, Message, Recipient
from triosmtp.message.spool import Body, Spool, SpoolError, hold
from triosmtp.message.trace import field, has_field, received_field_of, received_start
from triosmtp.module_loader import is_failure
from triosmtp.policy import ChainDecision, Session, choice_for_recipient
from triosmtp.policy_service.question import Excerpt
from triosmtp.server.admission import expects_many_connections
from triosmtp.server.profile import Profile
from triosmtp.server.routing import Target
from triosmtp.server.service import Service, fair_queue_key
from triosmtp.server.session.authentication_results import may_have_results, results_field, without_forged
from triosmtp.server.session.dispatch import Dispatch, digest_of
from triosmtp.server.session.policy_phase import ask_policies, deferred, emit_outcome
from triosmtp.server.session.refusal import Refusal, refusal_of
from triosmtp.server.session.restrictions import check_headers
from triosmtp.smtp import BodyEnd, Hello, MailFrom, Reply
from triosmtp.variables import DELIVER_TO

__all__ = ["Transaction"]

_log = logging.getLogger("triosmtp.delivery")


class Transaction:
    """The current message.  It begins when MAIL is accepted; :meth:`close` discards what it holds."""

    # Without __slots__: most messages change few of these defaults.
    refusal: Refusal | None = None
    """The reply that a BDAT gets when its octets have arrived."""
    _receiving = False  # whether the body is to be kept
    _spool: Spool | None = None  # made for the first part of a body that does not arrive whole
    _spooled = 0  # octets that are counted as being in a spool file
    _failure: SpoolError | None = None
    _excerpt: Excerpt | None = None  # for recordings
    _delivery_seconds = 0.0
    _answers: tuple[str, ...] = ()  # of targets
    _open_dispatch: Dispatch | None = None
    _digest: bytes | None = None  # of the message as the client sent it, if policies may change it
    _contexts: tuple[dict[str, str], dict[str, str]] | None = None  # those that the delivery got

    def __init__(
        self,
        service: Service,
        session: Session,
        profile: Profile,
        number: int,
        mail: MailFrom,
        hello: Hello | None,
        discarded_by: str = "",
    ) -> None:
        self._hello = hello
        self._service = service
        self._session = session
        self.profile = profile
        self.id = f"{session.id}-{number}"
        self.envelope = Envelope(mail.sender, mail.parameters)
        self.started = monotonic()
        self.discarded_by = discarded_by
        """The policy that discards the message, or ``""``."""

    def close(self) -> None:
        """Throw away the body, wherever it is, and end what was begun at targets."""
        if self._open_dispatch is not None:
            self._open_dispatch.close()
            self._open_dispatch = None
        self._receiving = False
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        if self._spooled:
            self._service.limits.space.release(fair_queue_key(self._session), self._spooled)
            self._spooled = 0

    def begin_body(self) -> None:
        """Keep the body that follows."""
        self._receiving = True

    def add(self, chunk: bytes) -> bool:
        """Take a part of the body; return whether :meth:`flush` is due."""
        if self._spool is None:
            if not self._receiving:
                return False
            settings = self.profile.settings
            self._spool = Spool(settings.spool_directory, settings.spool_min_free)
        return self._spool.add(chunk)

    async def flush(self) -> None:
        """Write to disk what is in memory.  A disk that fails is remembered, and answered at the end of the body."""
        assert self._spool is not None
        try:
            self._take_space(self._spool.unwritten)
            async with self._turn():
                await self._spool.flush()
        except SpoolError as error:
            self._failure = error.with_traceback(None)  # which would keep this transaction
            self.close()

    def _take_space(self, size: int) -> None:
        """Count octets that are about to be written.

        :raises SpoolError: if the spool may not hold so much.
        """
        service, settings = self._service, self.profile.settings
        peer, shared = fair_queue_key(self._session), not expects_many_connections(self._session.peer_address, settings)
        if not service.limits.space.fits(peer, size, settings.spool_max_size, shared=shared):
            raise SpoolError("Spool_Max_Size is reached", ENOSPC, spool_folder(settings))
        service.limits.space.reserve(peer, size)
        self._spooled += size

    def _turn(self) -> AbstractAsyncContextManager[None]:
        """Wait for a turn at the spool files, which go round between the peers.

        A peer that has gone has its turn, too: what came may be a whole message.
        """
        return self._service.limits.spooling.place(fair_queue_key(self._session), lambda: False)

    async def finish(self, end: BodyEnd) -> Refusal | None:
        """Take the message from the end of its body to the outcome, and report that; return the refusal, if any."""
        message: Message | None = None
        refusal: Refusal | None = None
        try:
            if end.error is not None:
                raise Refusal(end.error, "protocol", str(end.error.text))
            body = hold(end.data) if self._spool is None and self._receiving else None
            if body is None:
                body = await self._complete_in_spool(end.data)
            settings, headers = self.profile.settings, body.headers()
            if settings.authentication_results and may_have_results(body, headers):
                body = await self._without_forged(body)
                headers = body.headers()
            message = self._complete(body, headers)
            if self._service.hub.recorded_octets or self.profile.chain.asks_about_messages:
                await self._decide(message)
            if not self.discarded_by:
                await self._deliver(message)
        except Refusal as error:
            refusal = error.without_traceback()
        except BaseException:
            if message is not None:
                with suppress(Exception):  # the session ends
                    message.body.close()
            raise  # the end of the session closes the rest
        return self._conclude(message, refusal, end.size)

    def _accept_with(self, reply: Reply) -> None:
        """Use ``reply`` if the message is accepted, unless another one was chosen before."""
        vars(self).setdefault("_conclude", partial(self._conclude_with, reply))  # in place of a check for each message

    def _conclude_with(self, reply: Reply, message: Message | None, refusal: Refusal | None, size: int) -> Refusal:
        """Report the outcome as always; the reply to an accepted message is that of a policy or a target."""
        del vars(self)["_conclude"]  # a circle, which only the garbage collector would free
        return self._conclude(message, refusal, size) or Refusal(reply, "", "")

    def _conclude(self, message: Message | None, refusal: Refusal | None, size: int) -> Refusal | None:
        """Report the outcome, and release what the message holds.

        The message may be delivered by then: a failure does not change the reply.
        """
        try:
            try:
                if message is not None and self._service.hub.outcome_phases:
                    self._report_outcome(message, refusal)
                self._emit(refusal, size)
            finally:
                if message is not None:
                    message.body.close()
                if self._spool is not None or self._spooled or self._open_dispatch is not None:
                    self.close()
        except Exception:  # noqa: BLE001 - whatever it is, the client must hear the outcome
            _log.exception("message %s: an error after its outcome was settled; the reply stays", self.id)
        return refusal

    def _report_outcome(self, message: Message, refusal: Refusal | None) -> None:
        service, session, by = self._service, self._session, self.discarded_by
        emit_outcome(service, session, "data_spool", refusal, message, discarded_by=by, excerpt=self._excerpt)
        if "data_spool_each_rcpt" in service.hub.outcome_phases:
            for recipient in self.envelope.recipients:
                emit_outcome(service, session, "data_spool_each_rcpt", refusal, message, recipient, discarded_by=by)

    def _complete(self, body: Body, headers: bytes) -> Message:
        """Return the message, whose header section is ``headers``.

        :raises Refusal: if its header is not accepted.
        """
        session = self._session
        try:
            check_headers(self.profile.settings, headers)
        except Refusal:
            body.close()
            raise
        if not has_field(headers, b"Date"):
            session.message_variables.record({"rfc2822_date_missing": "true"})
        return Message(
            id=self.id,
            envelope=self.envelope,
            body=body,
            received=datetime.now(UTC),
            variables=session.variables,
            message_variables=session.message_variables,
        )

    async def _complete_in_spool(self, last: bytes) -> Body:
        """Return the body after its last part.

        :raises Refusal: if the disk failed, now or before.
        """
        if last and self.add(last):
            await self.flush()
        spool = self._spool
        body = None if spool is None else spool.finish_in_memory()
        if body is None:
            body = await self._complete_in_file()
        self._spool = None
        return body

    async def _complete_in_file(self) -> Body:
        """Write the rest of the body to its file.

        :raises Refusal: if the disk failed, now or before.
        """
        spool, failure = self._spool, self._failure
        if spool is not None and failure is None:
            try:
                self._take_space(spool.unwritten)
                async with self._turn():
                    return await spool.finish()
            except SpoolError as error:
                failure = error.with_traceback(None)
        raise self._spool_failed(failure)

    def _spool_failed(self, failure: SpoolError | None) -> Refusal:
        _log.error("message %s not accepted, spool write failed, replied 452: %s", self.id, failure)
        return Refusal(Reply(452, "Insufficient system storage", "4.3.1"), "spool", str(failure))

    async def _without_forged(self, body: Body) -> Body:
        try:
            async with self._turn():
                return await without_forged(body, self.profile.hostname, self.profile.settings.spool_directory)
        except SpoolError as error:
            body.close()
            raise self._spool_failed(error) from None
        except BaseException:
            body.close()
            raise

    async def _decide(self, message: Message) -> None:
        chain, recorded = self.profile.chain, self._service.hub.recorded_octets
        if self.profile.memory is not None and chain.asks_about_messages:
            try:
                self._digest = await digest_of(message.body)
            except SpoolError as error:
                raise self._spool_failed(error) from None
        if recorded:
            await self._record(message.body, recorded)
        try:
            await self._ask(message)
        finally:
            reply, self._session.accept_reply = self._session.accept_reply, None
        if reply is not None:
            self._accept_with(reply)

    async def _ask(self, message: Message) -> None:
        chain = self.profile.chain
        ask = partial(ask_policies, self._service, self._session, chain)
        if "data_spool" in chain.phases:
            self._note(await ask("data_spool", message))
            self._count_changed(message.body)
        if "data_spool_each_rcpt" in chain.phases:
            for recipient in tuple(self.envelope.recipients):
                with choice_for_recipient(self._session, message, recipient):
                    self._note(await ask("data_spool_each_rcpt", message, recipient))
        if not (self.envelope.recipients or self.discarded_by):  # DISCARD says that it is meant
            no_recipient = Reply(451, "Server configuration error", "4.3.5")
            raise Refusal(no_recipient, "policy", "policies removed all recipients, and did not discard the message")

    def _count_changed(self, body: Body) -> None:
        """Count a body that a policy has made larger.

        :raises Refusal: if the spool may not hold so much.
        """
        if not body.in_memory and body.size > self._spooled:
            try:
                self._take_space(body.size - self._spooled)
            except SpoolError as error:
                raise self._spool_failed(error) from None

    async def _record(self, body: Body, octets: int) -> None:
        """Keep the beginning of a message for those who record it; before its delivery, since it is settled then."""
        try:
            self._excerpt = Excerpt(await body.part(0, octets), body.size)
        except SpoolError as error:
            _log.warning("message %s is missing in recordings: %s", self.id, error)

    def _note(self, decision: ChainDecision) -> None:
        if decision.discard:
            self.discarded_by = decision.source
        refusal = deferred(decision, None)  # nothing later refuses
        if refusal is not None:
            raise refusal

    def _add_trace(self, message: Message) -> None:
        """Put the fields of the server and of policies in front of the message, and the contexts as they are now."""
        session, profile = self._session, self.profile
        settings, trace = profile.settings, message.trace
        if settings.rfc2822_trace_headers:
            trace = self._received(message) + trace  # in front of what policy added
        if settings.authentication_results and (session.auth is not None or session.connection_tls is not None):
            utf8 = self.envelope.smtputf8
            # On top: it is about the hop of the Received field below it (RFC 8601, section 4.1).
            trace = results_field(profile.hostname, session.auth, session.tls, utf8=utf8) + trace
        if session.headers or session.message_headers:
            headers = () if message.has_session_headers else session.headers
            trace += b"".join(field(name, value) for name, value in (*headers, *session.message_headers))
        message.trace = trace
        # The session goes on and changes its contexts; the message keeps them as they are now.
        variables, message_variables = session.variables.snapshot(), session.message_variables.snapshot()
        message.variables, message.message_variables = self._contexts = variables, message_variables

    async def _deliver(self, message: Message) -> None:
        self._add_trace(message)
        profile, began = self.profile, monotonic()
        target = profile.direct
        if target is None or (profile.chain.policies and _needs_plan(message)):
            await self._deliver_by_plan(message)
            self._delivery_seconds = monotonic() - began
            return
        try:
            answer = await target.delivery.deliver(message)
        except BaseException as error:
            refusal = self._refusal_of_target(target, error)
            if refusal is None:
                raise
            raise refusal from None
        self._delivery_seconds = seconds = monotonic() - began
        health = target.health  # without a call, since most messages of most servers come here
        health.deliveries += 1
        health.delivery_seconds += seconds
        health.delivered += len(self.envelope.recipients)
        if answer is not None:
            self._answers = answer_lines([(target.name, "", answer)])

    def _refusal_of_target(self, target: Target, error: BaseException) -> Refusal | None:
        """Count the exception of a target, and return its refusal; None for a cancellation."""
        if isinstance(error, Reject):
            refusal = refusal_of(error, "delivery")
        elif isinstance(error, DeliveryError):
            refusal = Refusal(Reply(error.code, error.text, error.enhanced), "delivery", error.reason)
        elif is_failure(error):
            # The operator's own code may raise anything; the message is not accepted then.
            _log.error("delivery of %s failed", self.id, exc_info=error)
            refusal = Refusal(Reply(451, "Local error in processing", "4.3.0"), "delivery", repr(error))
        else:
            return None
        target.health.count(refusal.reply.code, len(self.envelope.recipients))
        return refusal

    async def _deliver_by_plan(self, message: Message) -> None:
        dispatch = self._dispatch()
        refusal = await dispatch.deliver(message, self._digest)
        self._answers = dispatch.answers
        if refusal is not None:
            raise refusal
        if dispatch.reply is not None:
            self._accept_with(dispatch.reply)

    def _dispatch(self) -> Dispatch:
        if self._open_dispatch is None:
            self._open_dispatch = Dispatch(self._session, self.profile, self.envelope, self._hello)
        return self._open_dispatch

    async def verify(self, recipient: Recipient) -> None:
        """Ask the target of a recipient about it, if its protocol has that.

        :raises Refusal: if the target refuses it, or there is no such target.
        """
        session = self._session
        variables = session.message_variables
        chosen = variables.get(DELIVER_TO) if self.profile.chain.policies else None
        if not self.discarded_by:
            reply = await self._dispatch().verify(recipient, chosen)
            if session.accept_reply is None:  # else policy has chosen one
                session.accept_reply = reply

    def _snapshot(self) -> tuple[dict[str, str], dict[str, str]]:
        return self._session.variables.snapshot(), self._session.message_variables.snapshot()

    def _received(self, message: Message) -> bytes:
        session, profile, hello, recipients = self._session, self.profile, self._hello, self.envelope.recipients
        smtputf8 = "SMTPUTF8" in self.envelope.parameters
        name = session.client_name
        key = profile, hello, session.auth, session.connection_tls, session.peer, name, smtputf8
        shared = session.received_start
        if shared is None or shared[0] != key:
            start = received_start(
                helo=None if hello is None else hello.domain,
                peer_name=None if name == "unknown" else name,
                peer_address=None if session.peer_address is None else str(session.peer_address),
                by=profile.hostname,
                extended=hello is not None and hello.verb == "EHLO",
                smtputf8=smtputf8,
                authenticated=session.auth is not None,
                tls=session.connection_tls,
            )
            shared = session.received_start = key, start
        recipient = recipients[0].address.text if len(recipients) == 1 else None
        return received_field_of(shared[1], self.id, message.received, recipient)

    def _emit(self, refusal: Refusal | None, size: int) -> None:
        session, envelope, hello = self._session, self.envelope, self._hello
        recipients, sender = tuple(map(str, envelope.recipients)), envelope.sender.text
        variables, message_variables = self._contexts or self._snapshot()
        helo = "" if hello is None else hello.domain
        event: MessageAccepted | MessageRefused
        if refusal is None:
            event = MessageAccepted(
                session=session.info,
                message=self.id,
                sender=sender,
                recipients=recipients,
                size=size,
                seconds=monotonic() - self.started,
                tls=session.connection_tls,
                delivery_seconds=self._delivery_seconds,
                discarded_by=self.discarded_by,
                variables=variables,
                message_variables=message_variables,
                helo=helo,
                answers=self._answers,
            )
        else:
            event = MessageRefused(
                session=session.info,
                message=self.id,
                sender=sender,
                recipients=recipients,
                size=size,
                code=refusal.reply.code,
                enhanced=refusal.reply.enhanced,
                text=str(refusal.reply.text),
                decided_by=refusal.decided_by,
                reason=refusal.reason,
                tls=session.connection_tls,
                seconds=monotonic() - self.started,
                variables=variables,
                message_variables=message_variables,
                helo=helo,
                answers=self._answers if len(self._answers) > 1 else (),
            )
        self._service.emit(event)


def _needs_plan(message: Message) -> bool:
    """Return whether policies chose a target, for the message or for recipients, or changed it for some of them."""
    return DELIVER_TO in message.message_variables or message.has_variants
