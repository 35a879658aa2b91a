"""AUTH in a session: the exchange step by step, what it is checked against, who decides, and what a failure costs.

A readable password is asked of policy first, then of the store.  Whoever proved itself against a store is then asked of
policy, too.  Nobody is in who was not proven by a store or accepted by a policy with DONE.
"""

import base64
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar, TypeVarTuple

import trio
from attrs import evolve

from triosmtp.auth import (
    MECHANISMS,
    Answer,
    Challenge,
    Circumstances,
    Claim,
    Derivation,
    Exchange,
    Likeness,
    Lookup,
    Malformed,
    ScramKeys,
    Secret,
    StoreError,
)
from triosmtp.event import AuthAttempted
from triosmtp.limits.peer_limiter import LimitReachedError, PeerGoneError
from triosmtp.policy import AuthAttempt, Authenticated, Session
from triosmtp.server.profile import Profile
from triosmtp.server.service import Service, limiter_key
from triosmtp.server.session.refusal import Refusal, ask, tell_ended
from triosmtp.smtp import Auth, AuthResponse, Connection, Reply

__all__ = ["Authentication"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_HASHING: Final = trio.CapacityLimiter(2)
"""Threads of the attempts that :attr:`Service.hashing` lets in; an abandoned thread keeps its place until it ends."""
_FILES: Final = trio.CapacityLimiter(2)
"""Threads that look at files for what is offered, apart from all others: a file system that hangs holds up no mail."""
_RATE: Final = "Auth_Failure_Rate_Per_Peer"
_LONGEST: Final = 8
"""How many times Auth_Failure_Delay the answer to a failure waits at most."""

_FAILED: Final = Reply(535, "Authentication credentials invalid", "5.7.8")
_TEMPORARY: Final = Reply(454, "Temporary authentication failure", "4.7.0")
_CANCELLED: Final = Reply(501, "Authentication cancelled", "5.7.0")
_MALFORMED: Final = Reply(501, "Malformed authentication", "5.5.2")
_TOO_MANY: Final = Reply(421, "Too many failed authentications", "4.7.0")


class Authentication:
    """The AUTH of one session.  ``bindings`` gives the data of a channel binding by its type, over TLS."""

    __slots__ = (
        "_connection", "_exchange", "_failed", "_failures", "_finished", "_looked_up", "_mechanism", "_offered",
        "_service", "_session", "bindings", "is_gone",
    )  # fmt: skip

    def __init__(self, service: Service, session: Session, connection: Connection) -> None:
        self._service = service
        self._session = session
        self._connection = connection
        self._exchange: Exchange | None = None
        self._finished: Claim | None = None  # proven; the client must still answer the last challenge with nothing
        self._looked_up: str | None = None  # the user of an exchange that is under way, once that was looked up
        self._mechanism = ""
        self._offered: tuple[str, ...] = ()
        self._failures = 0
        self._failed = False  # whether the step under way was a failure that counts for the peer's address
        self.bindings: Callable[[str], bytes | None] = lambda _: None
        self.is_gone: Callable[[], bool] = lambda: False
        """Tells whether the client has disconnected."""

    async def offer(self, profile: Profile) -> None:
        """Offer the mechanisms that may be used now: at the beginning, and after each handshake."""
        sasl, tls = profile.sasl, self._session.tls
        if sasl.stores:
            for file in sasl.due(trio.current_time()):
                if not _FILES.available_tokens:
                    break  # a file system hangs, or nearly so: what was read holds, and no session waits for more
                await trio.to_thread.run_sync(file.refresh, limiter=_FILES, abandon_on_cancel=True)
            identified = await self._identity(profile) is not None
            self._offered = sasl.offered(tls, identified=identified)
            self._connection.offer_auth(self._offered, sasl.withheld(tls))

    async def renew(self, profile: Profile) -> None:
        """Begin anew: from now on the peer speaks for another client, who has not failed yet.

        ``profile`` is that of the client before, who is told of as one that has failed if its attempt is unfinished.
        """
        if self._looked_up is not None:
            self._tell(profile, Claim(user=self._looked_up, reason="broken off"), "protocol", succeeded=False)
            await self._count_peer(profile)
        self._abandon()
        self._failures = 0

    def break_off(self) -> None:
        """Let the exchange under way fail at the client's next answer: the handshake that it began with is outdated."""
        self._exchange = self._finished = None

    async def begin(self, event: Auth, profile: Profile) -> Reply:
        """Begin an exchange; give the reply.

        :raises Refusal: where the attempt fails.
        :raises trio.BrokenResourceError: if the client has disconnected before its turn came.
        """
        if self._looked_up is not None:
            # What the client answered then was no response at all, and ended the exchange before it came here.
            await self._count_peer(profile)
            await self._count(profile, Claim(user=self._looked_up, reason="broken off"), "protocol")
        return await self._limited(partial(self._begin, event, profile), profile)

    async def proceed(self, event: AuthResponse, profile: Profile) -> Reply:
        """Go on with what the client answered; give the reply.

        :raises Refusal: where the attempt fails.
        :raises trio.BrokenResourceError: if the client has disconnected before its turn came.
        """
        return await self._limited(partial(self._proceed, event, profile), profile)

    async def _limited(self, step: Callable[[], Awaitable[Reply]], profile: Profile) -> Reply:
        """Take a step of an exchange, if the peer's address has not failed too often.

        It is counted as a failure before its outcome is known, and taken back if it was none: attempts at the same time
        would all pass otherwise.
        """
        if not await self._count_peer(profile):
            self._abandon()
            raise Refusal(_TEMPORARY, "limit", _RATE)
        self._failed = False
        try:
            return await step()
        finally:
            if not self._failed and self._is_counted(profile):
                self._service.uncount_peer(_RATE, self._session.peer_address)

    def _is_counted(self, profile: Profile) -> bool:
        settings, address = profile.settings, self._session.peer_address
        if settings.auth_failure_rate_per_peer is None or address is None:
            return False
        return not any(address in network for network in settings.relay_hosts)

    async def _count_peer(self, profile: Profile) -> bool:
        """Count a failure of the peer's address; return whether that is within its limit."""
        rate = profile.settings.auth_failure_rate_per_peer
        if rate is None or not self._is_counted(profile):
            return True
        return await self._service.count_peer(_RATE, self._session.peer_address, rate)

    def _abandon(self) -> None:
        """Forget the exchange under way."""
        self._exchange = self._finished = self._looked_up = None

    async def _begin(self, event: Auth, profile: Profile) -> Reply:
        self._mechanism, self._finished = event.mechanism, None
        circumstances = Circumstances(
            hostname=profile.rules.hostname,
            realm=profile.sasl.stores[event.mechanism].realm,
            tls=self._session.tls,
            identity=await self._identity(profile) if event.mechanism == "EXTERNAL" else None,
            bindings=self.bindings if event.mechanism.endswith("-PLUS") else lambda _: None,
            plus="SCRAM-SHA-256-PLUS" in self._offered,
        )
        try:
            self._exchange = MECHANISMS[event.mechanism].begin(circumstances, event.initial)
            return await self._advance(None, profile)
        except Malformed as error:
            return await self._fail(profile, _MALFORMED, Claim(user="", reason=str(error)), "protocol")

    async def _proceed(self, event: AuthResponse, profile: Profile) -> Reply:
        claim, self._finished = self._finished, None
        if event.data is None or (claim is None and self._exchange is None):
            reason = "cancelled" if event.data is None else "TLS was negotiated anew in the middle of it"
            cancelled = Claim(user=self._looked_up or "", reason=reason)
            return await self._fail(profile, _CANCELLED, cancelled, "protocol")
        if claim is not None:
            if event.data:
                claim = evolve(claim, proven=False, reason="more than was asked for")
            return await self._conclude(claim, profile)
        try:
            return await self._advance(event.data, profile)
        except Malformed as error:
            return await self._fail(profile, _MALFORMED, Claim(user="", reason=str(error)), "protocol")

    async def _advance(self, answer: Answer | None, profile: Profile) -> Reply:
        exchange = self._exchange
        assert exchange is not None
        try:
            while True:
                step = next(exchange) if answer is None else exchange.send(answer)
                if isinstance(step, Challenge):
                    return Reply(334, base64.b64encode(step.data).decode("ascii"))
                answer = await self._work(step, profile)
        except StopIteration as stop:
            claim: Claim = stop.value
        except StoreError as error:
            return await self._fail(profile, _TEMPORARY, Claim(user="", reason=str(error)), "store")
        self._exchange = None
        if claim.last and claim.proven:
            self._finished = claim
            return Reply(334, base64.b64encode(claim.last).decode("ascii"))
        return await self._conclude(claim, profile)

    async def _work(self, step: Lookup | Derivation, profile: Profile) -> Secret | ScramKeys:
        if isinstance(step, Derivation):
            return await self._compute(step.secret.derive)
        self._looked_up = step.user
        file = profile.sasl.stores[self._mechanism].file
        if file is None:  # Always_Allow or Always_Deny, with no file: what is looked up decides nothing
            return Secret(step.user, False, Likeness(key=secrets.token_bytes(32)))
        return await self._compute(file.lookup, step.user)

    async def _compute(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do the work of an attempt in a thread, when it is this peer's turn.

        :raises Refusal: if too many attempts wait already.
        :raises trio.BrokenResourceError: if the client has disconnected before its turn came.
        """
        try:
            async with self._service.hashing.place(limiter_key(self._session), self.is_gone):
                return await trio.to_thread.run_sync(work, *arguments, limiter=_HASHING, abandon_on_cancel=True)
        except LimitReachedError:
            self._abandon()
            raise Refusal(_TEMPORARY, "limit", "too many attempts to authenticate wait") from None
        except PeerGoneError:
            raise trio.BrokenResourceError("the client has disconnected during AUTH") from None

    async def _identity(self, profile: Profile) -> str | None:
        identities = profile.sasl.identities
        tls = self._session.tls
        if identities is None or tls is None or not tls.verified:  # a thread for those only who may be somebody
            return None
        try:
            return await trio.to_thread.run_sync(identities.identify, tls, limiter=_FILES, abandon_on_cancel=True)
        except StoreError:
            return None  # it was read at start; while it cannot be, nobody is identified

    async def _conclude(self, claim: Claim, profile: Profile) -> Reply:
        """Ask policy and store, and the options that stand over both."""
        settings = profile.settings
        if settings.always_deny:
            return await self._fail(profile, _FAILED, claim, "Always_Deny")
        if claim.authorization and claim.authorization != claim.user:
            claim = evolve(claim, proven=False, password=None, reason="acts for another one")
        elif settings.always_allow:
            return self._succeed(profile, claim, "Always_Allow")
        if claim.password is None and not claim.proven:
            return await self._fail(profile, _FAILED, claim, "store")
        return await self._decide(claim, profile)

    async def _decide(self, claim: Claim, profile: Profile) -> Reply:
        chain, store = profile.chain, profile.sasl.stores[self._mechanism]
        attempt = AuthAttempt(
            mechanism=self._mechanism,
            user=claim.user,
            authorization=claim.authorization,
            password=claim.password,
            proven=True if claim.password is None else None,
        )
        decided_by = "store"
        if chain.asks("auth"):
            try:
                decision = await ask(self._service, self._session, chain, "auth", attempt)
            except Refusal as refusal:
                tell_ended(self._service, self._session, "auth", refusal, attempt)
                return await self._fail(
                    profile, refusal.reply, evolve(claim, reason=refusal.reason), refusal.decided_by
                )
            if decision.done:
                claim, decided_by = evolve(claim, proven=True, password=None), decision.source
        if claim.password is not None:
            if store.file is None:
                return await self._fail(profile, _FAILED, evolve(claim, reason="no policy accepted"), "policy")
            try:
                right = await self._compute(_verify, store.file.lookup, claim.user, claim.password)
            except StoreError as error:
                return await self._fail(profile, _TEMPORARY, evolve(claim, reason=str(error)), "store")
            if not right:
                return await self._fail(profile, _FAILED, evolve(claim, reason="wrong user or password"), "store")
        tell_ended(self._service, self._session, "auth", None, attempt)
        return self._succeed(profile, claim, decided_by)

    def _succeed(self, profile: Profile, claim: Claim, decided_by: str) -> Reply:
        session = self._session
        self._looked_up = None
        session.auth = Authenticated(self._mechanism, claim.user)
        session.variables.record(
            {"auth_name": self._mechanism, "auth_status": "pass", "auth_user": claim.user, "can_relay": "true"}
        )
        self._tell(profile, claim, decided_by, succeeded=True)
        return Reply(235, "Authentication successful", "2.7.0")

    async def _fail(self, profile: Profile, reply: Reply, claim: Claim, decided_by: str) -> Reply:
        """Tell the failure, let the client wait for its answer, and give that.

        :raises Refusal: always.
        """
        status = "error" if reply.code in {454, 501} else "fail"
        # Who gives up before anybody is looked up has tried nothing; how often is bounded as for any idle command.
        counts = reply is not _CANCELLED or self._looked_up is not None
        self._failed = counts and reply.code >= 500  # what is to be tried again was no wrong guess
        await self._count(profile, claim, decided_by, status, counts=counts)
        raise Refusal(reply, decided_by, self._described(claim))

    async def _count(
        self, profile: Profile, claim: Claim, decided_by: str, status: str = "error", *, counts: bool = True
    ) -> None:
        """Tell a failure, and let the client wait.

        :raises Refusal: where it is one too many.
        """
        session, settings = self._session, profile.settings
        self._exchange = self._looked_up = None
        session.variables.record({"auth_name": self._mechanism, "auth_status": status, "auth_user": claim.user})
        self._tell(profile, claim, decided_by, succeeded=False)
        if not counts:
            return
        self._failures += 1
        await trio.sleep(settings.auth_failure_delay * min(2 ** (self._failures - 1), _LONGEST))
        if settings.max_auth_failures and self._failures >= settings.max_auth_failures:
            raise Refusal(_TOO_MANY, decided_by, self._described(claim))

    def _described(self, claim: Claim) -> str:
        return f"{self._mechanism}: {claim.reason or 'refused'}"

    def _tell(self, profile: Profile, claim: Claim, decided_by: str, *, succeeded: bool) -> None:
        session = self._session
        self._service.emit(
            AuthAttempted(
                session=session.info,
                mechanism=self._mechanism,
                user=claim.user,
                succeeded=succeeded,
                reason="" if succeeded else claim.reason,
                decided_by=decided_by,
                logged=profile.sasl.stores[self._mechanism].logged,
            )
        )


def _verify(lookup: Callable[[str], Secret], user: str, password: str) -> bool:
    return lookup(user).verify(password)
