"""The conversation of one session: what each event of the sans-io connection asks for, and the reply to it.

Policy is asked first, then the built-in rule of the phase; what they say becomes the reply.  There is no SMTP grammar
here (that is ``smtp/``) and no stream (that is ``session.py``): replies are gathered in ``out`` and written once for
each turn of the peer.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from triosmtp.config import Listen
from triosmtp.event import TLSFailed
from triosmtp.message import Recipient
from triosmtp.policy import Phase, Session
from triosmtp.server.profile import Profile
from triosmtp.server.service import Service
from triosmtp.server.session import restrictions as rule
from triosmtp.server.session.auth import Authentication
from triosmtp.server.session.refusal import Refusal, ask, tell_ended, tell_refused
from triosmtp.server.session.transaction import Transaction
from triosmtp.server.session.xclient import Spokesman, answer_context
from triosmtp.smtp import (
    Auth,
    AuthResponse,
    BadCommand,
    BodyChunk,
    BodyEnd,
    Chunk,
    ChunkEnd,
    Connection,
    ConnectionEnded,
    Data,
    Event,
    Fatal,
    Hello,
    Help,
    MailFrom,
    Noop,
    Quit,
    RcptTo,
    Reply,
    Reset,
    StartTLS,
    Verify,
    XClient,
    XDumpContext,
    XRemoteIP,
    XSetContext,
)  # fmt: skip
from triosmtp.variables import POSTFIX_ALIASES

__all__ = ["Conversation"]

_WEIGHT: Final = 100  # of a recipient that was refused for good, beside one that was refused for now
_ENHANCED: Final = re.compile(r"(?:(4\.\d+\.\d+)(?: |$))?(.*)")


class Conversation:
    """Answers the events of one session."""

    __slots__ = (
        "_at_connect", "_discarded_at_connect", "_discarded_by", "_generation", "_headers_at_connect", "_hello",
        "_recipients", "_refused", "_service", "_settings", "_transactions", "authentication", "connection", "end",
        "messages", "out", "profile", "session", "spokesman", "transaction",
    )  # fmt: skip

    def __init__(self, service: Service, listen: Listen, profile: Profile, session: Session) -> None:
        self._service = service
        self._generation = service.generation
        self.profile = profile
        self._settings = profile.settings
        self._at_connect: dict[str, str] = {}
        self._headers_at_connect: tuple[tuple[str, str], ...] = ()
        self._discarded_at_connect = self._discarded_by = ""  # the policy that throws away all that comes
        self._hello: Hello | None = None
        self._recipients = 0
        self._refused = 0  # recipients, since a message was taken
        self._transactions = 0
        self.session = session
        self.connection = Connection(profile.rules)
        self.authentication = Authentication(service, session, self.connection)
        self.spokesman = Spokesman(service, listen, session, self.connection)
        self.transaction: Transaction | None = None
        self.out: list[bytes] = []
        self.messages = 0
        """Bodies that were begun: what Max_Receptions_Per_Connection and connection_message_count count."""
        self.end = "failed"
        """Why the session ends: the reason of :class:`~triosmtp.event.Disconnected`."""

    async def answer(self, event: Event) -> None:
        """Do what ``event`` asks for, and gather the reply."""
        await _HANDLERS[type(event)](self, event)

    # -- the steps around a connection's beginning and its handshake

    async def connect(self) -> Refusal | None:
        """Fill the context, and ask policy about the new connection."""
        session = self.session
        session.variables.record(self._settings.context)
        if self._settings.pathway:
            session.variables["pathway"] = self._settings.pathway
        self._grant_relay()
        await self.authentication.offer(self.profile)
        try:
            await self._ask("connect")
        except Refusal as refusal:
            self._ended("connect", refusal)
            return refusal
        else:
            self._ended("connect", None)
        finally:
            self._at_connect = session.variables.snapshot()
            self._headers_at_connect = tuple(session.headers)
            self._discarded_at_connect = self._discarded_by
        return None

    async def tls_established(self) -> Refusal | None:
        """Fill the context with what the handshake established, and ask policy about it."""
        session = self.session
        assert session.tls is not None
        session.variables.record(session.tls.variables())
        self._grant_relay()
        await self.authentication.offer(self.profile)
        try:
            await self._ask("starttls", session.tls)
        except Refusal as refusal:
            self._ended("starttls", refusal, session.tls)
            return refusal
        self._ended("starttls", None, session.tls)
        return None

    def greet(self, refusal: Refusal | None, phase: str) -> None:
        """Gather the banner, or the refusal that stands in its place."""
        if refusal is not None:
            self._refuse(phase, refusal)
        else:
            self.out.append(self.connection.send(self.profile.banner))

    def refuse_from_now_on(self, refusal: Refusal) -> None:
        """Answer every command that follows, but QUIT, with this refusal: a handshake has no reply of its own."""
        self.connection.refuse_commands(refusal.reply)
        self._tell_refused("starttls", refusal)

    def forget(self) -> None:
        """Discard what was learnt before TLS (RFC 3207, section 4.2): anybody in between may have said it.

        What policy wrote since connect goes, too: it may follow from that.
        """
        session, variables = self.session, self.session.variables
        self._end_transaction()
        self._hello = None
        self._discarded_by = self._discarded_at_connect
        session.auth = None
        session.headers[:] = self._headers_at_connect
        counts = {key: value for key, value in variables.items() if key.startswith("connection_")}
        variables.renew()
        variables.record({**self._at_connect, **counts})
        variables.forget("ehlo_string", "ehlo_domain", "auth_name", "auth_status", "auth_user")

    def forget_tls(self) -> None:
        """Discard what a handshake established, and the rights that came of it."""
        self.authentication.break_off()
        variables, auth = self.session.variables, self.session.auth
        variables.forget("can_relay", "tls_", *POSTFIX_ALIASES)
        if auth is not None:
            if auth.mechanism == "EXTERNAL":  # it was the certificate's
                self.session.auth = None
                variables.forget("auth_name", "auth_status", "auth_user")
            else:
                variables["can_relay"] = "true"
        # What holds without a word of the client stays: its address, and what policy found at connect.
        if "can_relay" in self._at_connect:
            variables["can_relay"] = self._at_connect["can_relay"]

    def _grant_relay(self) -> None:
        relay, session = self.profile.relay, self.session
        if relay.trusts_host(session.peer_address) or relay.trusts_certificate(session.tls):
            session.variables["can_relay"] = "true"

    # -- policy

    async def _ask(self, phase: Phase, *arguments: object) -> bool:
        """Ask the policies.  Gives True where one of them ended the phase."""
        chain = self.profile.chain
        if not chain.asks(phase):
            return False
        decision = await ask(self._service, self.session, chain, phase, *arguments)
        if decision.discard:
            if self.transaction is not None:
                self.transaction.discarded_by = decision.source
            else:
                self._discarded_by = decision.source
        return decision.done

    async def _decide(self, phase: Phase, *arguments: object) -> bool:
        """Ask the policies, and gather their refusal, or the row's own reply: then True."""
        try:
            await self._ask(phase, *arguments)
        except Refusal as refusal:
            self._ended(phase, refusal, *arguments)
            self._refuse(phase, refusal)
            return False
        self._ended(phase, None, *arguments)
        self.out.append(self.connection.accept())
        return True

    def _ended(self, phase: Phase, refusal: Refusal | None, *arguments: object) -> None:
        tell_ended(self._service, self.session, phase, refusal, *arguments)

    def _refuse(self, phase: str, refusal: Refusal, *about: Any) -> None:
        self._tell_refused(phase, refusal, *about)
        self.out.append(self.connection.send(refusal.reply, by_limit=refusal.decided_by == "limit"))

    def _tell_refused(self, phase: str, refusal: Refusal, *about: Any) -> None:
        tell_refused(self._service, self.session, phase, refusal, *about)
        if refusal.reply.code == 421:
            self.end = "refused"

    def _is_outdated(self, phase: str, *about: Any) -> bool:
        """End a session that began before a reload, where no message is under way: policy is not asked."""
        if self._service.generation is self._generation:
            return False
        match = _ENHANCED.fullmatch(self._settings.reconfig_message)
        assert match is not None, "every text matches"
        reply = Reply(421, match[2], match[1] or "4.3.2")
        self._refuse(phase, Refusal(reply, "reload", "the configuration was reloaded"), *about)
        self.end = "reconfigured"
        return True

    # -- what each event asks for

    async def _on_hello(self, event: Hello) -> None:
        variables = self.session.variables
        before = {name: variables.get(name) for name in ("ehlo_string", "ehlo_domain")}
        variables.record({"ehlo_string": event.line, "ehlo_domain": event.domain})
        if await self._decide("ehlo", event.domain):
            self._end_transaction()
            self._hello = event
            return
        # A refused one changes nothing (RFC 5321, section 4.1.4): the one before it stands, if there was one.
        for name, value in before.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = value

    async def _on_auth(self, event: Auth | AuthResponse) -> None:
        try:
            if isinstance(event, Auth):
                reply = await self.authentication.begin(event, self.profile)
            else:
                reply = await self.authentication.proceed(event, self.profile)
        except Refusal as refusal:
            self._refuse("auth", refusal)
            return
        self.out.append(self.connection.send(reply))

    async def _on_mail(self, event: MailFrom) -> None:
        self._end_transaction()
        if self._is_outdated("mailfrom", event.sender):
            return
        session, sender = self.session, event.sender
        session.message_variables.record(
            {
                "mailfrom_string": str(sender),
                "mailfrom_localpart": sender.local_part,
                "mailfrom_domain": sender.domain,
            }
        )
        before, headers = self._discarded_by, len(session.headers)
        try:
            done = await self._ask("mailfrom", sender, event.parameters)
            rule.check_receptions(self._settings, self.messages)
            if not done:
                rule.demand_certificate(self._settings, session.connection_tls)
            if self.profile.relay.senders is not None:
                rule.check_sender(self.profile.relay.senders, session, sender)
            if "SIZE" in event.parameters:
                await rule.check_space(self._service, session, self._settings, event.parameters["SIZE"])
            if self._settings.inbound_throttle_messages is not None:
                limit = self._settings.inbound_throttle_messages
                await rule.check_rate(self._service, session, "Inbound_Throttle_Messages", limit)
        except Refusal as refusal:
            self._discarded_by = before
            self._ended("mailfrom", refusal, sender, event.parameters)
            self._refuse("mailfrom", refusal, sender)
            return
        finally:
            session.message_headers += session.headers[headers:]  # said at MAIL, they are about this message
            del session.headers[headers:]
        self._ended("mailfrom", None, sender, event.parameters)
        self._transactions += 1
        session.variables.record({"message_rcpt_count": "0"})
        self.transaction = Transaction(self._service, session, self.profile, self._transactions, event, self._hello)
        self.transaction.discarded_by, self._discarded_by = self._discarded_by, before
        session.envelope = self.transaction.envelope
        self.out.append(self.connection.accept())

    async def _on_rcpt(self, event: RcptTo) -> None:
        transaction, session = self.transaction, self.session
        assert transaction is not None
        recipient = event.recipient
        session.message_variables.record(
            {
                "rcptto_string": str(recipient),
                "rcptto_localpart": recipient.local_part,
                "rcptto_domain": recipient.domain,
            }
        )
        try:
            await self._ask("rcptto", recipient, event.parameters)
            rule.check_recipients(self._settings, len(transaction.envelope.recipients), self._recipients)
            rule.check_tls_for(self.profile.relay, session, recipient)
            if rule.check_relay(self.profile.relay, session, transaction.envelope.sender, recipient, event.path):
                # Holds for this sender alone: the variable goes when the transaction ends.
                session.variables["can_relay"] = "true"
                transaction.granted_relay = True
            if self.profile.recipients is not None and self.profile.relay.is_local(recipient):
                await rule.check_exists(self.profile.recipients, recipient)
            if self._settings.recipient_rate_per_peer is not None:
                limit = self._settings.recipient_rate_per_peer
                await rule.check_rate(self._service, session, "Recipient_Rate_Per_Peer", limit)
        except Refusal as refusal:
            self._ended("rcptto", refusal, recipient, event.parameters)
            self._refuse("rcptto", self._counted(refusal), transaction.envelope.sender, (recipient,))
            return
        self._ended("rcptto", None, recipient, event.parameters)
        self._recipients += 1
        transaction.envelope.recipients.append(Recipient(recipient, event.parameters))
        session.variables.record(
            {
                "connection_rcpt_count": str(self._recipients),
                "message_rcpt_count": str(len(transaction.envelope.recipients)),
            }
        )
        self.out.append(self.connection.accept())

    def _counted(self, refusal: Refusal) -> Refusal:
        """Count a recipient that was refused; whoever guesses for too long is not listened to any more."""
        self._refused += _WEIGHT if refusal.reply.code >= 500 else 1
        limit = self._settings.max_refused_recipients * _WEIGHT
        if not limit or self._refused <= limit or refusal.reply.code == 421:
            return refusal
        return Refusal(Reply(421, "Too many refused recipients", "4.7.0"), "limit", "Max_Refused_Recipients")

    async def _on_data(self, _event: Data) -> None:
        assert self.transaction is not None
        self.transaction.begin_body()
        if await self._decide("data"):
            self._count_message()

    def _count_message(self) -> None:
        self.messages += 1
        self.session.variables.record({"connection_message_count": str(self.messages)})

    async def _on_chunk(self, event: BodyChunk) -> None:
        assert self.transaction is not None
        if self.transaction.add(event.data):
            await self.transaction.flush()

    async def _on_bdat(self, event: Chunk) -> None:
        """Ask policy about the first chunk.  A refusal waits for the octets that are under way already."""
        transaction = self.transaction
        assert transaction is not None
        if not event.first:
            return
        transaction.begin_body()
        try:
            await self._ask("data")
        except Refusal as refusal:
            transaction.close()
            transaction.refusal = refusal
            self._ended("data", refusal)
            return
        self._ended("data", None)
        self._count_message()

    async def _on_chunk_end(self, event: ChunkEnd) -> None:
        assert self.transaction is not None
        if event.error is None and self.transaction.refusal is None:
            self.out.append(self.connection.send(Reply(250, f"{event.size} octets received", "2.0.0")))
        else:
            await self._on_body_end(BodyEnd(event.size, event.error))

    async def _on_body_end(self, event: BodyEnd) -> None:
        transaction = self.transaction
        assert transaction is not None
        if event.data and transaction.add(event.data):
            await transaction.flush()
        if transaction.refusal is not None:
            self._end_transaction()
            self._refuse("data", transaction.refusal, transaction.envelope.sender, transaction.envelope.recipients)
            return
        reply = await transaction.finish(event)
        if reply.code == 421:
            self.end = "refused"
        elif reply.positive:
            self._refused = 0
        self._end_transaction()
        self.out.append(self.connection.send(reply))

    async def _on_starttls(self, _event: StartTLS) -> None:
        reached = await self._service.admit_handshake(self.session, self._settings)
        if reached:
            reply = Reply(454, "TLS is not available for the moment", "4.7.0")
            self._refuse("starttls", Refusal(reply, "limit", reached))
            return
        self.out.append(self.connection.accept())

    async def _on_bad_command(self, event: BadCommand) -> None:
        self._refuse("command", Refusal(event.reply, "protocol", event.reason))

    async def _on_fatal(self, event: Fatal) -> None:
        if event.injection:
            self._service.emit(TLSFailed(session=self.session.info, reason="injection", detail=event.reason))
        self._refuse("command", Refusal(event.reply, "protocol", event.reason))
        self.end = "protocol_error"

    async def _on_end(self, _event: ConnectionEnded) -> None:
        self.end = "peer_closed"  # between two commands too: nobody said QUIT

    async def _on_quit(self, _event: Quit) -> None:
        self.end = "quit"
        self.out.append(self.connection.accept())

    async def _on_reset(self, _event: Reset) -> None:
        self._end_transaction()
        if self._is_outdated("command"):
            return
        self.out.append(self.connection.accept())

    async def _on_other(self, _event: Noop | Verify | Help) -> None:
        self.out.append(self.connection.accept())

    async def _on_announced(self, event: XClient | XRemoteIP) -> None:
        """A trusted peer speaks for another one from now on: the session begins anew as that one's."""
        await self.authentication.renew(self.profile)
        self.profile, self._hello = self.spokesman.speak_for(event, self._hello)
        self._settings = self.profile.settings
        self._discarded_by = ""
        refusal = await self.connect()
        if self.session.auth is not None:
            self.session.variables["can_relay"] = "true"
        if refusal is None and isinstance(event, XRemoteIP):
            self.out.append(self.connection.accept())
        else:
            self.greet(refusal, "connect")

    async def _on_context(self, event: XDumpContext | XSetContext) -> None:
        try:
            reply = answer_context(self.session, event)
        except Refusal as refusal:
            self._refuse("command", refusal)
        else:
            self.out.append(self.connection.send(reply))

    def _end_transaction(self) -> None:
        """Forget the message under way, if there is one."""
        transaction, session = self.transaction, self.session
        session.message_variables.renew()
        session.message_headers.clear()
        if transaction is not None:
            if transaction.granted_relay:
                session.variables.forget("can_relay")
            transaction.close()
            self.transaction = None
            session.envelope = None


_HANDLERS: Final[dict[type, Callable[[Conversation, Any], Awaitable[None]]]] = {
    Hello: Conversation._on_hello,
    Auth: Conversation._on_auth,
    AuthResponse: Conversation._on_auth,
    MailFrom: Conversation._on_mail,
    RcptTo: Conversation._on_rcpt,
    Data: Conversation._on_data,
    Chunk: Conversation._on_bdat,
    ChunkEnd: Conversation._on_chunk_end,
    BodyChunk: Conversation._on_chunk,
    BodyEnd: Conversation._on_body_end,
    StartTLS: Conversation._on_starttls,
    Reset: Conversation._on_reset,
    Noop: Conversation._on_other,
    Verify: Conversation._on_other,
    Help: Conversation._on_other,
    Quit: Conversation._on_quit,
    XClient: Conversation._on_announced,
    XRemoteIP: Conversation._on_announced,
    XDumpContext: Conversation._on_context,
    XSetContext: Conversation._on_context,
    BadCommand: Conversation._on_bad_command,
    Fatal: Conversation._on_fatal,
    ConnectionEnded: Conversation._on_end,
}
