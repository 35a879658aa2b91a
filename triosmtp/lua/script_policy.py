"""The scripts of a configuration as one policy: which callouts a phase has, and what their answers mean."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import trio
from attrs import frozen

from triosmtp.errors import Reject
from triosmtp.event import Observer, Refused
from triosmtp.lua.answer_functions import AGAIN, CONT, reject_of, reply_of
from triosmtp.lua.answer_functions import DONE as LUA_DONE
from triosmtp.lua.api.resources import Judge
from triosmtp.lua.callout import Answer, Callout, SessionScripts
from triosmtp.lua.engine import CALLOUTS, Engine
from triosmtp.lua.host import HostObject
from triosmtp.lua.script_passwords import ScriptPasswords
from triosmtp.lua.state import Failure
from triosmtp.message import Message, Recipient
from triosmtp.message.header_edits import EditError, HeaderEdits
from triosmtp.message.spool import SpoolError
from triosmtp.policy import DISCARD, DONE, AuthAttempt, Done, Policy, PolicyError, Session
from triosmtp.smtp import Address
from triosmtp.variables import TLSInfo

__all__ = ["ScriptSettings", "make_script_policy"]

_AGAIN_SECONDS: Final = 0.1
_HOLD_SECONDS: Final = 0.5  # between two looks whether the peer of a held reply is still there
_OWN_REPLY: Final = frozenset({"connect", "mailfrom", "rcptto", "data_spool", "data_spool_each_rcpt"})
"""Phases whose positive reply a script may word."""
_CLOSES: Final = frozenset({"connect", "ehlo", "mailfrom", "rcptto"})
"""Phases at which a script may close the connection without a code of 400 or more."""
_CLOSING: Final = "4.7.0 Closing connection"
_TLS_REFUSED: Final = "4.7.0 TLS Negotiation failed."


@frozen(slots=True, kw_only=True)
class ScriptSettings:
    """The options of a scope that concern its scripts."""

    hostname: str
    timeout: float
    spool_directory: Path | None
    spool_min_free: int
    emit: Observer
    judge: Judge


def make_script_policy(engine: Engine, settings: ScriptSettings) -> Policy:
    """Return the policy that asks the scripts of a set: at the phases for which they have a callout."""
    phases = {phase for method, phase in CALLOUTS.items() if phase and engine.methods(method)}
    if "rcptto" in phases:
        phases.add("data_spool")  # recipients that are discarded are dropped there
    methods: dict[str, Any] = {f"validate_{phase}": vars(_Phases)[f"validate_{phase}"] for phase in phases - {"auth"}}
    if "auth" in phases:
        methods["auth_decided"] = _Phases.auth_decided
    return cast("Policy", type("ScriptPolicy", (_ScriptPolicy,), methods)(engine, settings))


class _ScriptPolicy(Policy, ScriptPasswords):
    """Asks the scripts of a set.  One for each scope; they share the set."""

    def __init__(self, engine: Engine, settings: ScriptSettings) -> None:
        self._engine = engine
        self._settings = settings

    @property
    def source(self) -> str:
        """``lua``: decisions name the module too."""
        return "lua"

    @property
    def scripts(self) -> Engine:
        """The set of scripts."""
        return self._engine

    def _begin(
        self, session: Session, name: str, message: Message | None = None, recipient: Recipient | None = None
    ) -> "_Phase":
        if recipient is None:  # with one, the reply is still that of the whole message
            session.accept_reply = None
        return _Phase(self._engine, self._settings, session, name, message, recipient)

    async def _apply(self, phase: "_Phase", message: Message) -> None:
        """Make the changes of the scripts part of the message."""
        edits = phase.edits
        if not edits or phase.refuses:
            return
        settings, body = self._settings, message.body
        try:
            message.body = await edits.apply(body, settings.spool_directory, settings.spool_min_free)
        except EditError as error:
            raise phase.failed(Failure(f"the changes of the header: {error}")) from None
        except SpoolError as error:
            raise Reject(452, "4.3.1", "Insufficient system storage", reason=str(error)) from None
        body.close()

    def _emit_discard(self, session: Session, answer: Answer, module: str, recipients: list[str]) -> None:
        """Report what a script has discarded, for the rejectlog."""
        reply = reply_of(int(answer.discard[:3]), answer.discard[4:])
        sender = "" if session.envelope is None else str(session.envelope.sender)
        self._settings.emit(
            Refused(
                session=session.info,
                phase="data",
                code=reply.code,
                enhanced=reply.enhanced,
                text=str(reply.text),
                decided_by=f"lua:{module}",
                reason="discarded",
                variables=session.variables.snapshot(),
                message_variables=session.message_variables.snapshot(),
                sender=sender,
                recipients=tuple(recipients),
            )
        )


class _Phases(_ScriptPolicy):
    """The methods of all phases; a policy has those that its scripts need."""

    async def validate_connect(self, session: Session) -> Done | None:
        """Run core_validate_accept and validate_connect; a refusal closes the connection."""
        phase = self._begin(session, "connect")
        scripts = phase.scripts
        await phase.run("core_validate_accept", scripts.ac, scripts.vctx)
        await phase.run("validate_connect", scripts.ac, scripts.vctx)
        phase.answer.closes = phase.answer.closes or phase.refuses
        return await phase.end()

    async def validate_ehlo(self, session: Session, domain: str) -> Done | None:
        """Run validate_ehlo."""
        phase = self._begin(session, "ehlo")
        verb = "HELO" if session.variables.get("ehlo_string", "")[:4].upper() == "HELO" else "EHLO"
        phase.command = _command(f"{verb} {domain}")
        await phase.run("validate_ehlo", None, phase.scripts.ac, phase.scripts.vctx)
        return await phase.end()

    async def validate_starttls(self, session: Session, tls: TLSInfo) -> Done | None:  # noqa: ARG002 - in the variables
        """Run core_inbound_smtp_tls_post_accept, which refuses by a code and a request to disconnect."""
        phase = self._begin(session, "starttls")
        await phase.run("core_inbound_smtp_tls_post_accept", phase.scripts.mc, 0, 0, None, int(trio.current_time()))
        answer = phase.answer
        if answer.code is None or answer.code == 220 or not (answer.closes or phase.refuses):
            answer.code = None
            return await phase.end()
        note = session.variables.get("_tls_note", "")
        if note[:3].isascii() and note[:3].isdigit() and 400 <= int(note[:3]) <= 599:
            answer.code, answer.text = int(note[:3]), note[3:].lstrip(" -")
        elif phase.refuses and (note or answer.text):
            answer.text = note or answer.text
        else:
            answer.code, answer.text = 421, note or _TLS_REFUSED
        return await phase.end()

    async def auth_decided(self, session: Session, attempt: AuthAttempt, status: str) -> None:
        """Run core_validate_auth_hook, when the outcome is known."""
        phase = self._begin(session, "auth")
        info = {"mechanism": attempt.mechanism, "user": attempt.user, "authorization": attempt.authorization}
        for method in ("core_validate_auth_hook", "core_validate_auth"):
            await phase.run(method, phase.scripts.vctx, info, status)
        await phase.end()

    async def validate_mailfrom(
        self,
        session: Session,
        sender: Address,
        parameters: Mapping[str, str | None],  # noqa: ARG002 - scripts get none
    ) -> Done | None:
        """Run validate_mailfrom."""
        phase = self._begin(session, "mailfrom")
        phase.command = _command(f"MAIL FROM:<{sender.text}>")
        await phase.run("validate_mailfrom", None, phase.scripts.ac, phase.scripts.vctx)
        return await phase.end()

    async def validate_rcptto(
        self,
        session: Session,
        recipient: Address,
        parameters: Mapping[str, str | None],  # noqa: ARG002 - as above
    ) -> Done | None:
        """Run validate_rcptto; a recipient that is discarded is accepted and dropped."""
        phase = self._begin(session, "rcptto")
        scripts = phase.scripts
        phase.command = _command(f"RCPT TO:<{recipient.text}>")
        await phase.run("validate_rcptto", scripts.msg, scripts.ac, scripts.vctx)
        discarded = (session.envelope, recipient.text)
        # A client may repeat a recipient that was refused: the latest answer stands.
        scripts.dropped = [each for each in scripts.dropped if each[0] is session.envelope and each != discarded]
        if phase.answer.discard:
            if not phase.refuses:
                self._emit_discard(session, phase.answer, phase.module, [recipient.text])
                scripts.dropped.append(discarded)
            phase.answer.discard = ""
        return await phase.end()

    async def validate_data_spool(self, session: Session, message: Message) -> Done | None:
        """Run validate_data, validate_data_spool and the callouts of the list of recipients."""
        phase = self._begin(session, "data_spool", message)
        scripts = phase.scripts
        if scripts.dropped:
            names = {text for envelope, text in scripts.dropped if envelope is message.envelope}
            recipients = message.envelope.recipients
            recipients[:] = [each for each in recipients if each.address.text not in names]
            scripts.dropped.clear()
            if not recipients:
                return DISCARD
        try:
            for method in ("validate_data", "validate_data_spool"):
                await phase.run(method, scripts.msg, scripts.ac, scripts.vctx)
            for method in ("validate_rcptto_list", "validate_rcptto_list_final"):
                await phase.run(method, [str(each) for each in message.envelope.recipients], scripts.vctx)
            await self._apply(phase, message)
        finally:
            phase.release()
        if phase.answer.discard and not phase.refuses:
            self._emit_discard(session, phase.answer, phase.module, [str(each) for each in message.envelope.recipients])
        return await phase.end()

    async def validate_data_spool_each_rcpt(
        self, session: Session, message: Message, recipient: Recipient
    ) -> Done | None:
        """Run validate_data_spool_each_rcpt, whose changes are those of one copy."""
        recipients, recipient = message.envelope.recipients, message.current_recipient(recipient)
        if not any(each is recipient for each in recipients):  # another policy has removed it
            return None
        phase = self._begin(session, "data_spool_each_rcpt", message, recipient)
        scripts = phase.scripts
        await phase.run("validate_data_spool_each_rcpt", scripts.msg, scripts.ac, scripts.vctx)
        if phase.answer.discard and not phase.refuses:
            current = phase.recipient
            self._emit_discard(session, phase.answer, phase.module, [str(current)])
            if len(recipients) > 1:
                phase.answer.discard = ""
                recipients[:] = [each for each in recipients if each is not current]
        return await phase.end()


class _Phase:
    """One phase of a session: the callouts that it has, one after another, and the answer that they make together."""

    def __init__(
        self,
        engine: Engine,
        settings: ScriptSettings,
        session: Session,
        name: str,
        message: Message | None,
        recipient: Recipient | None,
    ) -> None:
        self._engine, self._settings, self._session, self._name = engine, settings, session, name
        self._message = message
        self.recipient = recipient
        self.scripts: SessionScripts = engine.of_session(session)
        self.scripts.judge = settings.judge
        self.answer = Answer()
        self.command = b""
        """The command that the callouts get."""
        self.module = ""
        """The module that gave the answer."""
        self._done = False
        self.edits = HeaderEdits() if message is None or recipient is None else message.edits_of(recipient)

    @property
    def refuses(self) -> bool:
        """Whether the scripts refuse."""
        return self.answer.code is not None and self.answer.code >= 400

    async def run(self, method: str, *arguments: HostObject | Any) -> None:
        """Run a callout of every script that has it, unless the phase is refused already."""
        if self.refuses:
            return
        for module in self._engine.methods(method):
            callout = Callout(
                engine=self._engine, phase=self._name, method=method, module=module.name, scripts=self.scripts,
                command=self.command, message=self._message, recipient=self.recipient, edits=self.edits,
                answer=self.answer,
            )  # fmt: skip
            before = self.answer.code, self.answer.text
            result = await self._ask(callout, module, arguments)
            self.recipient = callout.recipient
            if (self.answer.code, self.answer.text) != before or self.answer.discard:
                self.module = module.name
            if result == LUA_DONE:
                self._done = True
                return

    async def _ask(self, callout: Callout, module: Any, arguments: tuple[Any, ...]) -> object:
        """Return what a callout answers, asking again as long as it waits."""
        deadline = trio.current_time() + self._settings.timeout
        try:
            result = await self._engine.call(callout, module, *arguments, deadline=deadline)
            while result == AGAIN and not isinstance(result, bool):
                with trio.fail_at(deadline):
                    await trio.sleep(_AGAIN_SECONDS)
                result = await self._engine.call(callout, module, *arguments, deadline=deadline)
        except trio.TooSlowError:
            seconds = f"{self._settings.timeout:g} s (Policy_Timeout)"
            raise self.failed(Failure(f"{callout.method} did not end within {seconds}"), callout) from None
        except Failure as error:
            raise self.failed(error, callout) from None
        if result is None and callout.method != "core_inbound_smtp_tls_post_accept":
            warning = f"{module.name} error: (null): {callout.method} returned nothing, taken for VALIDATE_CONT"
            self._engine.warn_once(warning)
        if result is not None and (isinstance(result, bool) or result not in (CONT, LUA_DONE)):
            raise self.failed(Failure(f"{callout.method} returned {result!r}, which is no VALIDATE_…"), callout)
        return result

    def failed(self, error: Failure, callout: Callout | None = None) -> PolicyError:
        """Log an error of a script, and return the exception that ends the session with 421."""
        if callout is not None:
            self._engine.log_failure(callout, error)
        text = f"{self._settings.hostname} temporary issue, please retry your message later"
        refusal = Reject(421, None, text, reason=f"{self.module or 'lua'}: {error.text}"[:500])
        refusal.enhanced = ""
        return PolicyError(error.text, refusal)

    def release(self) -> None:
        """Forget the message."""
        self._message = None

    async def end(self) -> Done | None:
        """Hold the reply back if a script wants it, and return the decision.

        :raises Reject: if the scripts refuse.
        """
        if self.answer.closes and not self.refuses and self._name in _CLOSES:
            self.answer.code, self.answer.text = 421, _CLOSING
        if self.answer.tarpit:
            await self._hold(self.answer.tarpit)
        if self.refuses:
            raise reject_of(self.answer, "", f"lua:{self.module}")
        code = self.answer.code
        if code is not None and code < 300 and self._name in _OWN_REPLY:
            code = 220 if self._name == "connect" else code if self._name == "rcptto" and code in {251, 252} else 250
            self._session.accept_reply = reply_of(code, self.answer.text)
        self._session.decider = f"lua:{self.module}" if self.module else ""
        if self.answer.discard:
            return DISCARD
        return DONE if self._done else None

    async def _hold(self, seconds: float) -> None:
        """Wait, unless the peer leaves or the server ends."""
        is_leaving: Callable[[], bool] | None = self._session.is_leaving
        until = trio.current_time() + seconds
        while (rest := until - trio.current_time()) > 0 and not (is_leaving is not None and is_leaving()):  # noqa: ASYNC110 - nobody tells that the peer leaves
            await trio.sleep(min(rest, _HOLD_SECONDS))


def _command(text: str) -> bytes:
    return f"{text}\r\n".encode("utf-8", "surrogateescape")
