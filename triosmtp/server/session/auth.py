"""AUTH in a session: the exchange step by step, what it is checked against, who decides, and what a failure costs.

A readable password is shown to policy first, then checked against the store.  A client that has proved itself against a
store is shown to policy, too.  Nobody is authenticated without a proof for a store or a policy's DONE.
"""

import base64
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar, TypeVarTuple

import trio
from attrs import evolve

from triosmtp.auth import (
    MECHANISMS,
    UNEXPECTED_RESPONSE,
    AuthFileError,
    AuthServiceError,
    Challenge,
    Claim,
    KeyDerivation,
    Lookup,
    MalformedResponse,
    MockParameters,
    Relay,
    SaslContext,
    ScramKeys,
    ServiceAnswer,
    StoredCredentials,
    relay_exchange,
)
from triosmtp.event import AuthAttempted
from triosmtp.limits.fair_queue import FairQueue, PeerGoneError, QueueFullError
from triosmtp.module_loader import is_failure
from triosmtp.policy import AuthAttempt, Authenticated, ChainDecision, CheckedPassword
from triosmtp.server.auth_service import AuthRequest, request_attributes
from triosmtp.server.sasl_config import CredentialSource
from triosmtp.server.service import fair_queue_key
from triosmtp.server.session.policy_phase import ask_hook, settle
from triosmtp.server.session.refusal import Refusal
from triosmtp.server.session.state import SASLState, SessionState
from triosmtp.smtp import Auth, AuthResponse, Reply

__all__ = ["abandon_exchange", "answer", "start_over", "update_offer"]

_log = logging.getLogger("triosmtp.auth")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_HASHING: Final = trio.CapacityLimiter(2)
"""Threads of the attempts that :attr:`Service.hashing` admits; an abandoned thread keeps its place until it ends."""
_FILES: Final = trio.CapacityLimiter(2)
"""Threads that read the files behind the offer, apart from all others: a file system that hangs delays no mail."""
_RATE: Final = "Auth_Failure_Rate_Per_Peer"
_MAX_DELAYS: Final = 8
"""The answer to a failure waits at most this many times Auth_Failure_Delay."""

_FAILED: Final = Reply(535, "Authentication credentials invalid", "5.7.8")
_TEMPORARY: Final = Reply(454, "Temporary authentication failure", "4.7.0")
_CANCELLED: Final = Reply(501, "Authentication cancelled", "5.7.0")
_MALFORMED: Final = Reply(501, "Malformed authentication", "5.5.2")
_TOO_MANY: Final = Reply(421, "Too many failed authentications", "4.7.0")


async def update_offer(state: SessionState) -> None:
    """Offer the mechanisms that may be used now: at the beginning, and after each handshake."""
    sasl, tls = state.profile.sasl, state.session.tls
    if not sasl.stores:
        return
    for file in sasl.due(trio.current_time()):
        if not _FILES.available_tokens:
            break  # a file system hangs, or nearly so: what was read holds, and no session waits for more
        await trio.to_thread.run_sync(file.refresh, limiter=_FILES, abandon_on_cancel=True)
    if sasl.service is not None:
        await sasl.service.refresh()
    identified = await _identity(state) is not None
    if state.sasl is None:
        state.sasl = SASLState()
    state.sasl.offered = sasl.offered(tls, identified=identified)
    state.connection.offer_auth(state.sasl.offered, sasl.withheld(tls))


async def start_over(state: SessionState) -> None:
    """Forget the failures and the exchange of this client: the peer announces another one.

    An unfinished attempt is reported as failed.
    """
    sasl = state.sasl
    if sasl is None:
        return
    if sasl.looked_up is not None:
        _emit(state, sasl, Claim(user=sasl.looked_up, reason="broken off"), "protocol", succeeded=False)
        await _count_peer(state)
    _abandon(sasl)
    sasl.failures = 0


def abandon_exchange(state: SessionState) -> None:
    """Let the current exchange fail at the client's next answer: the handshake that it began with is outdated."""
    if state.sasl is not None:
        state.sasl.exchange = state.sasl.finished = None


async def answer(state: SessionState, event: Auth | AuthResponse) -> Reply:
    """Begin an exchange, or continue it with the client's answer; return the reply.

    :raises Refusal: if the attempt fails.
    :raises trio.BrokenResourceError: if the client has disconnected before its turn came.
    """
    sasl = state.sasl
    assert sasl is not None, "AUTH was offered"
    if isinstance(event, Auth) and sasl.looked_up is not None:
        # The client has answered the challenge with a malformed line.  That ended the exchange before it came here.
        await _count_peer(state)
        await _count(state, sasl, Claim(user=sasl.looked_up, reason="broken off"), "protocol")
    # The step is counted as a failure before its outcome is known, and uncounted if it was none.  Otherwise attempts at
    # the same time would all be within the limit.
    if not await _count_peer(state):
        _abandon(sasl)
        raise Refusal(_TEMPORARY, "limit", _RATE)
    sasl.failed = False
    try:
        return await (_begin(state, sasl, event) if isinstance(event, Auth) else _proceed(state, sasl, event.data))
    except MalformedResponse as error:
        return await _fail(state, sasl, _MALFORMED, Claim(user="", reason=str(error)), "protocol")
    finally:
        if not sasl.failed and _is_counted(state):
            state.service.limits.uncount_peer(_RATE, state.session.peer_address)


def _is_counted(state: SessionState) -> bool:
    settings, address = state.profile.settings, state.session.peer_address
    if settings.auth_failure_rate_per_peer is None or address is None:
        return False
    return not any(address in network for network in settings.relay_hosts)


async def _count_peer(state: SessionState) -> bool:
    """Count a failure of the peer's address; return whether it is within the limit."""
    rate = state.profile.settings.auth_failure_rate_per_peer
    if rate is None or not _is_counted(state):
        return True
    return await state.service.limits.count_peer(_RATE, state.session.peer_address, rate)


def _abandon(sasl: SASLState) -> None:
    """Forget the current exchange."""
    sasl.exchange = sasl.finished = sasl.looked_up = sasl.request = None


async def _begin(state: SessionState, sasl: SASLState, event: Auth) -> Reply:
    sasl.mechanism, sasl.finished = event.mechanism, None
    service = _store(state, sasl).service
    if service is not None:
        mechanism = MECHANISMS.get(event.mechanism)
        if mechanism is not None and not mechanism.client_first and event.initial is not None:
            raise MalformedResponse(UNEXPECTED_RESPONSE)
        attributes = request_attributes(state.session, await _identity(state))
        sasl.request = AuthRequest(service, event.mechanism, attributes)
        sasl.exchange = relay_exchange(event.initial, sasl.request.abandon)
        return await _advance(state, sasl, None)
    context = SaslContext(
        hostname=state.profile.rules.hostname,
        realm=_store(state, sasl).realm,
        tls=state.session.tls,
        identity=await _identity(state) if event.mechanism == "EXTERNAL" else None,
        channel_binding=state.bindings if state.bindings and event.mechanism.endswith("-PLUS") else _no_binding,
        offers_plus="SCRAM-SHA-256-PLUS" in sasl.offered,
    )
    sasl.exchange = MECHANISMS[event.mechanism].begin(context, event.initial)
    return await _advance(state, sasl, None)


async def _proceed(state: SessionState, sasl: SASLState, data: bytes | None) -> Reply:
    claim, sasl.finished = sasl.finished, None
    if data is None or (claim is None and sasl.exchange is None):
        reason = "cancelled" if data is None else "TLS was renegotiated in the middle of it"
        return await _fail(state, sasl, _CANCELLED, Claim(user=sasl.looked_up or "", reason=reason), "protocol")
    if claim is None:
        return await _advance(state, sasl, data)
    if data:
        claim = evolve(claim, proven=False, reason="more than was asked for")
    return await _conclude(state, sasl, claim)


async def _advance(state: SessionState, sasl: SASLState, data: bytes | None) -> Reply:
    exchange = sasl.exchange
    assert exchange is not None, "it was begun"
    given: bytes | StoredCredentials | ScramKeys | ServiceAnswer | None = data
    try:
        while True:
            step = next(exchange) if given is None else exchange.send(given)
            if isinstance(step, Challenge):
                return Reply(334, base64.b64encode(step.data).decode("ascii"))
            given = await _work(state, sasl, step)
    except StopIteration as stop:
        claim: Claim = stop.value
    except (AuthFileError, AuthServiceError) as error:
        return await _fail(state, sasl, _TEMPORARY, Claim(user="", reason=str(error)), "store")
    sasl.exchange = None
    if claim.last and claim.proven:
        sasl.finished = claim
        return Reply(334, base64.b64encode(claim.last).decode("ascii"))
    return await _conclude(state, sasl, claim)


async def _work(
    state: SessionState, sasl: SASLState, step: Lookup | KeyDerivation | Relay
) -> StoredCredentials | ScramKeys | ServiceAnswer:
    if isinstance(step, Relay):
        return await _relay(state, sasl, step.data)
    if isinstance(step, KeyDerivation):
        return await _compute(state, sasl, step.credentials.derive)
    sasl.looked_up = step.user
    file = _store(state, sasl).file
    if file is None:  # Always_Allow or Always_Deny, with no file: what is looked up decides nothing
        return StoredCredentials(step.user, False, MockParameters(key=secrets.token_bytes(32)))
    return await _compute(state, sasl, file.lookup, step.user)


async def _relay(state: SessionState, sasl: SASLState, data: bytes | None) -> ServiceAnswer:
    """Pass on the client's octets to the Auth_Service, when it is this peer's turn.

    :raises Refusal: if too many attempts wait already.
    :raises AuthServiceError: if there is no answer.
    :raises trio.BrokenResourceError: if the client has disconnected before its turn came.
    """
    assert sasl.request is not None, "it was begun"
    if data is not None:
        sasl.looked_up = ""  # which user it is only the service knows, but from now on it is an attempt
    async with _place(state, sasl, state.service.limits.auth_service):
        return await sasl.request.ask(data)


async def _compute(state: SessionState, sasl: SASLState, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Run the work of an attempt in a thread, when it is this peer's turn.

    :raises Refusal: if too many attempts wait already.
    :raises trio.BrokenResourceError: if the client has disconnected before its turn came.
    """
    async with _place(state, sasl, state.service.limits.hashing):
        return await trio.to_thread.run_sync(work, *arguments, limiter=_HASHING, abandon_on_cancel=True)


@asynccontextmanager
async def _place(state: SessionState, sasl: SASLState, queue: FairQueue) -> AsyncIterator[None]:
    """Wait for this peer's turn."""
    try:
        async with queue.place(fair_queue_key(state.session), state.is_gone):
            yield
    except QueueFullError:
        _abandon(sasl)
        raise Refusal(_TEMPORARY, "limit", "too many attempts to authenticate wait") from None
    except PeerGoneError:
        raise trio.BrokenResourceError("the client has disconnected during AUTH") from None


async def _identity(state: SessionState) -> str | None:
    identities, tls = state.profile.sasl.identities, state.session.tls
    if identities is None or tls is None or not tls.verified:  # a thread only for clients that may be listed
        return None
    try:
        return await trio.to_thread.run_sync(identities.identify, tls, limiter=_FILES, abandon_on_cancel=True)
    except AuthFileError:
        return None  # it was read at start; while it cannot be, nobody is identified


def _no_binding(_type: str) -> bytes | None:
    """Return None: there is no TLS, or the mechanism binds to no channel."""


def _store(state: SessionState, sasl: SASLState) -> CredentialSource:
    return state.profile.sasl.stores[sasl.mechanism]


async def _conclude(state: SessionState, sasl: SASLState, claim: Claim) -> Reply:
    """Apply the options that take precedence over policy and store, then ask both."""
    settings = state.profile.settings
    if settings.always_deny:
        return await _fail(state, sasl, _FAILED, claim, "Always_Deny")
    if claim.authorization and claim.authorization != claim.user:
        claim = evolve(claim, proven=False, password=None, reason="the authorization identity is that of another user")
    elif settings.always_allow:
        return _succeed(state, sasl, claim, "Always_Allow")
    if claim.password is None and not claim.proven:
        return await _fail(state, sasl, _FAILED, claim, "store")
    return await _decide(state, sasl, claim)


async def _decide(state: SessionState, sasl: SASLState, claim: Claim) -> Reply:
    attempt = AuthAttempt(
        mechanism=sasl.mechanism,
        user=claim.user,
        authorization=claim.authorization,
        password=claim.password,
        proven=True if claim.password is None else None,
    )

    async def check_store(decision: ChainDecision) -> None:
        if claim.password is not None and not decision.done:
            await _check_password(state, sasl, claim.user, claim.password)

    service, session, chain = state.service, state.session, state.profile.chain
    decision, refusal = await settle(service, session, chain, "auth", attempt, restrict=check_store)
    if decision.discard:
        state.discard(decision.source, "auth")
    for hook in chain.auth_hooks:
        status = "pass" if refusal is None else "error" if refusal.reply.code == 454 else "fail"
        refusal = await ask_hook(service, session, hook, attempt, status) or refusal
    if refusal is None:
        proven = evolve(claim, proven=True, password=None)
        return _succeed(state, sasl, proven, decision.source if decision.done else "store")
    if refusal.decided_by == "limit":  # no guess was judged
        raise refusal
    claim = evolve(claim, reason=refusal.reason)
    return await _fail(state, sasl, refusal.reply, claim, refusal.decided_by, closes=refusal.closes)


async def _check_password(state: SessionState, sasl: SASLState, user: str, password: str) -> None:
    """Check a readable password against the store.

    :raises Refusal: if it is wrong or cannot be checked.
    """
    store = _store(state, sasl)
    if store.check is not None:
        await _check_by_policy(state, store, user, password)
        return
    file = store.file
    if file is None:
        raise Refusal(_FAILED, "policy", "no policy accepted")
    try:
        right = await _compute(state, sasl, _verify, file.lookup, user, password)
    except AuthFileError as error:
        raise Refusal(_TEMPORARY, "store", str(error)) from None
    if not right:
        raise Refusal(_FAILED, "store", "wrong user or password")


async def _check_by_policy(state: SessionState, store: CredentialSource, user: str, password: str) -> None:
    """Ask the policy that checks passwords.

    :raises Refusal: if it is wrong or cannot be checked.
    """
    try:
        answer = await store.checked(state.session, user, password)
    except BaseException as error:
        if not is_failure(error):
            raise
        _log.exception("session %s: a password was not checked", state.session.id)
        raise Refusal(_TEMPORARY, "store", repr(error)) from None
    if answer.result is CheckedPassword.RIGHT:
        return
    reply = _FAILED if answer.result is CheckedPassword.WRONG else _TEMPORARY
    raise Refusal(evolve(reply, text=answer.text) if answer.text else reply, "store", "a policy checked the password")


def _verify(lookup: Callable[[str], StoredCredentials], user: str, password: str) -> bool:
    return lookup(user).verify(password)


def _succeed(state: SessionState, sasl: SASLState, claim: Claim, decided_by: str) -> Reply:
    session = state.session
    sasl.looked_up = sasl.request = None
    session.auth = Authenticated(sasl.mechanism, claim.user)
    session.variables.record(
        {"auth_name": sasl.mechanism, "auth_status": "pass", "auth_user": claim.user, "can_relay": "true"}
    )
    _emit(state, sasl, claim, decided_by, succeeded=True)
    return Reply(235, "Authentication successful", "2.7.0")


async def _fail(
    state: SessionState, sasl: SASLState, reply: Reply, claim: Claim, decided_by: str, *, closes: bool = False
) -> Reply:
    """Report the failure, let the client wait for its answer, and raise that.

    :raises Refusal: always.
    """
    status = "error" if reply.code in {454, 501} else "fail"
    # A client that gives up before anybody is looked up has tried nothing.  How often is limited as for NOOP.
    counts = reply is not _CANCELLED or sasl.looked_up is not None
    sasl.failed = counts and reply.code >= 500  # what is to be tried again was no wrong guess
    await _count(state, sasl, claim, decided_by, status, counts=counts)
    refusal = Refusal(reply, decided_by, _described(sasl, claim))
    refusal.closes = closes
    raise refusal


async def _count(
    state: SessionState, sasl: SASLState, claim: Claim, decided_by: str, status: str = "error", *, counts: bool = True
) -> None:
    """Report a failure, and let the client wait.

    :raises Refusal: if it is one too many.
    """
    session, settings = state.session, state.profile.settings
    sasl.exchange = sasl.looked_up = sasl.request = None
    session.variables.record({"auth_name": sasl.mechanism, "auth_status": status, "auth_user": claim.user})
    _emit(state, sasl, claim, decided_by, succeeded=False)
    if not counts:
        return
    sasl.failures += 1
    await trio.sleep(settings.auth_failure_delay * min(2 ** (sasl.failures - 1), _MAX_DELAYS))
    if settings.max_auth_failures and sasl.failures >= settings.max_auth_failures:
        raise Refusal(_TOO_MANY, decided_by, _described(sasl, claim))


def _described(sasl: SASLState, claim: Claim) -> str:
    return f"{sasl.mechanism}: {claim.reason or 'refused'}"


def _emit(state: SessionState, sasl: SASLState, claim: Claim, decided_by: str, *, succeeded: bool) -> None:
    state.service.emit(
        AuthAttempted(
            session=state.session.info,
            mechanism=sasl.mechanism,
            user=claim.user,
            succeeded=succeeded,
            reason="" if succeeded else claim.reason,
            decided_by=decided_by,
            logged=_store(state, sasl).logged,
        )
    )
