"""``triosmtp policy lua``: run a script of Momentum against recorded sessions; no mail is received."""

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from triosmtp.commands.policy_replay import Recorded, load_recording
from triosmtp.errors import QueryError, needs_extra
from triosmtp.message import Envelope, Message, Recipient
from triosmtp.message.spool import Body
from triosmtp.policy import AuthAttempt, Chain, ChainDecision, Policy, Session, choice_for_recipient
from triosmtp.policy_service.shadow import describe_outcome
from triosmtp.smtp import Address

__all__ = ["lua_command"]


def lua_command(script: Path, recording: Path, folders: list[str], *, as_json: bool) -> int:
    """Load a script, ask it about every phase of a recording, and print its decisions.

    Return 0, or 1 if a decision differs from the recorded one or the script failed.

    :raises QueryError: if lupa is missing, the script cannot be loaded, or the recording is damaged.
    """
    try:
        from triosmtp.lua.engine import Engine, LoadError, ScriptSource  # noqa: PLC0415 - needs lupa
        from triosmtp.lua.script_policy import ScriptSettings, make_script_policy  # noqa: PLC0415 - as above
    except ModuleNotFoundError:
        raise QueryError(f"a script {needs_extra('lupa', 'lua')}") from None
    logging.basicConfig(level=logging.INFO, format="  %(message)s", stream=sys.stderr if as_json else sys.stdout)
    try:
        recorded = list(load_recording(recording))
    except OSError as error:
        raise QueryError(f"{recording}: {error.strerror}") from None
    path = script.resolve()

    async def run() -> int:
        engine = Engine((ScriptSource(script.stem, str(path)),), (path.parent, *map(Path, folders)))
        try:
            await engine.load()
        except LoadError as error:
            raise QueryError(str(error)) from None
        for _, text in engine.warnings:
            print(f"warning: {text}", file=sys.stderr)
        settings = ScriptSettings(
            hostname="localhost",
            timeout=5.0,
            spool_directory=None,
            spool_min_free=0,
            emit=_nothing,
            judge=_any_recipient,
        )
        replay = _Replay(make_script_policy(engine, settings))
        for each in recorded:
            await replay.ask(each, as_json=as_json)
        await replay.close()
        await engine.close()
        return replay.conclude(as_json=as_json)

    return trio.run(run)


def _nothing(_event: object) -> None:
    """Drop an event."""


async def _any_recipient(_session: Session, _address: Address) -> str:
    """Return that a message may have any recipient."""
    return ""


@define(slots=True, eq=False)
class _Replay:
    """The sessions of a recording, as the script sees them."""

    policy: Policy
    sessions: dict[str, Session] = field(factory=dict)
    messages: dict[str, Message] = field(factory=dict)
    asked: int = 0
    differing: int = 0
    chain: Chain = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.chain = Chain((self.policy,))

    async def ask(self, recorded: Recorded, *, as_json: bool) -> None:
        """Ask the script about one phase, and print what it decides."""
        question = recorded.question
        session = self._session(recorded)
        arguments = self._arguments(recorded, session)
        if question.phase not in self.chain.phases or arguments is None:
            self._take(recorded, session)
            return
        alone = question.phase == "data_spool_each_rcpt"
        with choice_for_recipient(session, *arguments) if alone else nullcontext():
            decision = await self.chain.ask(question.phase, session, *arguments)
        self._take(recorded, session)
        self.asked += 1
        text, same = _described(decision), _is_same(decision, recorded)
        self.differing += not same
        row = {
            "session": question.session, "peer": question.peer, "phase": question.phase,
            "recorded": describe_outcome(recorded.outcome), "script": text, "same": same,
        }  # fmt: skip
        if as_json:
            print(json.dumps(row))
        else:
            about = question.arguments.get("sender", question.arguments.get("recipient", ""))
            words = [word if word.isprintable() else json.dumps(word) for word in (question.phase, str(about), text)]
            print(f"{question.session} {question.peer} {words[0]} {words[1]}: {words[2]} (was {row['recorded']})")

    async def close(self) -> None:
        """End every session."""
        for session in self.sessions.values():
            session.release()

    def conclude(self, *, as_json: bool) -> int:
        """Print the sum, and return the exit status."""
        if as_json:
            print(json.dumps({"summary": {"asked": self.asked, "differ": self.differing}}))
        else:
            print(f"{self.asked} phases asked, {self.differing} decided differently than recorded")
        return 1 if self.differing else 0

    def _session(self, recorded: Recorded) -> Session:
        question = recorded.question
        session = self.sessions.get(question.session)
        if session is None:
            session = self.sessions[question.session] = Session(
                id=question.session, listener=question.listener, peer=question.peer,
                peer_address=_peer_address(question.peer), local=question.local,
            )  # fmt: skip
            session.is_leaving = lambda: True  # a reply is not held back
        session.variables.record(question.variables)
        if question.phase == "mailfrom":
            session.message_variables.renew()
            session.envelope = None
        session.message_variables.record(question.message_variables)
        return session

    def _arguments(self, recorded: Recorded, session: Session) -> tuple[Any, ...] | None:
        """Return the arguments of the phase; None if the recording does not have the message."""
        given: Mapping[str, Any] = recorded.question.arguments
        match recorded.question.phase:
            case "ehlo":
                return (str(given.get("domain", "")),)
            case "starttls":
                return (None,)
            case "auth":
                return (AuthAttempt(mechanism=str(given.get("mechanism", "")), user=str(given.get("user", ""))),)
            case "mailfrom":
                session.envelope = Envelope(_address(given.get("sender")))
                return session.envelope.sender, {}
            case "rcptto":
                return _address(given.get("recipient")), {}
            case "data_spool":
                return None if recorded.body is None else (self._message(session, recorded.body),)
            case "data_spool_each_rcpt":
                message = self.messages.get(session.id)
                recipients = () if message is None else message.envelope.recipients
                wanted = str(given.get("recipient", ""))
                found = next((each for each in recipients if str(each) == wanted), None)
                return None if found is None else (message, found)
            case _:
                return ()

    def _message(self, session: Session, body: Body) -> Message:
        envelope = session.envelope or Envelope(Address.NULL)
        message = Message(id=f"{session.id}-1", envelope=envelope, body=body, received=datetime.now(UTC))
        self.messages[session.id] = message
        return message

    def _take(self, recorded: Recorded, session: Session) -> None:
        """Let a recipient that was accepted be one of the message."""
        if recorded.question.phase == "rcptto" and recorded.outcome.decision == "accepted" and session.envelope:
            session.envelope.recipients.append(Recipient(_address(recorded.question.arguments.get("recipient")), {}))


def _peer_address(peer: str) -> IPv4Address | IPv6Address | None:
    host = peer.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host)
    except ValueError:  # a Unix socket
        return None


def _address(text: object) -> Address:
    local_part, at, domain = str(text or "").rpartition("@")
    return Address(local_part, domain) if at else Address(domain, "")


def _described(decision: ChainDecision) -> str:
    refusal = decision.refusal
    if decision.error:
        return f"failed: {decision.error}"
    if refusal is not None:
        return " ".join(filter(None, (f"refused {refusal.code}", refusal.enhanced, refusal.text)))
    return "discarded" if decision.discard else "done" if decision.done else "continue"


def _is_same(decision: ChainDecision, recorded: Recorded) -> bool:
    """Return whether the script would have changed nothing about the outcome."""
    outcome = recorded.outcome
    if decision.refusal is not None:
        return outcome.decision == "refused" and outcome.code // 100 == decision.refusal.code // 100
    if decision.discard:
        return outcome.decision == "refused"
    return not (outcome.decision == "refused" and outcome.decided_by.startswith("lua"))
