"""What policy clients may ask of the server: its sessions, its certificates, and a rehearsal of recorded questions."""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from triosmtp.policy.interface import PHASES
from triosmtp.policy_service.connected_client import ConnectedClient
from triosmtp.policy_service.json_rpc import ErrorCode, ProtocolError, Request
from triosmtp.policy_service.question import Question, ServerAdmin
from triosmtp.policy_service.recorded_body import BODY_PART
from triosmtp.policy_service.verdict_reader import read_variables

if TYPE_CHECKING:
    from triosmtp.policy_service.hub import Hub

__all__ = ["Control", "read_recorded_question"]

_AT_ONCE: Final = 64
"""Control requests of one client under way."""
_REHEARSED: Final = 1000


class Control:
    """Answers the requests of clients."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._numbers = 0

    async def call(self, link: ConnectedClient, call: Request) -> object:
        """Carry out one request of a client that has introduced itself.

        :raises ProtocolError: where it cannot be.
        """
        free = _FREE.get(call.method)
        if free is not None:
            return free(self._hub)
        method = _ADMIN.get(call.method)
        shows_body = call.method == "message.body"
        if method is None and not shows_body:
            raise ProtocolError(ErrorCode.METHOD_NOT_FOUND, f"there is no method {call.method[:80]!r}")
        if not link.admin and not shows_body:
            raise ProtocolError(ErrorCode.ADMIN_NEEDED, f"{call.method} needs the token of Admin_Token_File")
        if link.control_requests >= _AT_ONCE:
            raise ProtocolError(ErrorCode.FAILED, f"{_AT_ONCE} requests are under way already")
        link.control_requests += 1
        try:
            return await (self._body(link, call.params) if method is None else method(self, call.params))
        finally:
            link.control_requests -= 1

    @property
    def _host(self) -> ServerAdmin:
        if self._hub.host is None:
            raise ProtocolError(ErrorCode.FAILED, "there is no server behind this hub")
        return self._hub.host

    async def _body(self, link: ConnectedClient, params: Mapping[str, Any]) -> object:
        """Show a decider a part of the message that it is asked about."""
        if link.registration is None or not link.registration.decides:
            raise ProtocolError(ErrorCode.FAILED, "message.body is for deciders in mode enforce")
        if not link.access.private:
            raise ProtocolError(ErrorCode.FAILED, "message.body needs a Unix socket or TLS")
        limit = link.access.body_limit
        if not limit:
            raise ProtocolError(ErrorCode.FAILED, "Body_Limit is 0: no message is shown")
        number, part = params.get("question"), params.get("part", 0)
        question = link.open_question(number)
        if question is None or question.phase != "data_spool":
            raise ProtocolError(
                ErrorCode.NO_QUESTION, "question: this client is not asked it at data_spool, or not any more"
            )
        if isinstance(part, bool) or not isinstance(part, int) or not 0 <= part <= (limit - 1) // BODY_PART:
            raise ProtocolError(ErrorCode.INVALID_PARAMS, "part: expected an integer from 0 on, below Body_Limit")
        start = part * BODY_PART
        found = await self._read(question, start, min(BODY_PART, limit - start))
        if found is None:
            raise ProtocolError(ErrorCode.NO_QUESTION, "question: its message is not there any more")
        octets, size = found
        parts = max(1, -(-min(size, limit) // BODY_PART))
        if part >= parts:
            raise ProtocolError(ErrorCode.INVALID_PARAMS, f"part: there are {parts}, and the first is 0")
        data = b64encode(octets).decode("ascii")
        return {"part": part, "parts": parts, "size": size, "truncated": size > limit, "data": data}

    async def _read(self, question: Question, start: int, size: int) -> tuple[bytes, int] | None:
        host = self._hub.host
        if host is None:
            return await self._hub.body_part(question.id, start, size)
        return await host.body_part(question.id, question.session, start, size)

    async def _list(self, _params: Mapping[str, Any]) -> object:
        return {"sessions": await self._host.sessions()}

    async def _get(self, params: Mapping[str, Any]) -> object:
        session = await self._host.session(_session(params))
        if session is None:
            raise ProtocolError(ErrorCode.NO_SESSION, "there is no such session")
        return session

    async def _set(self, params: Mapping[str, Any]) -> object:
        connection, message = read_variables(params, "connection"), read_variables(params, "message")
        if not await self._host.set_variables(_session(params), connection, message):
            raise ProtocolError(ErrorCode.NO_SESSION, "there is no such session")
        return {}

    async def _close(self, params: Mapping[str, Any]) -> object:
        if not await self._host.close_session(_session(params)):
            raise ProtocolError(ErrorCode.NO_SESSION, "there is no such session")
        return {}

    async def _certificates(self, _params: Mapping[str, Any]) -> object:
        return {"certificates": await self._host.certificates()}

    async def _reload(self, _params: Mapping[str, Any]) -> object:
        return await self._host.reload_certificates()

    async def _replay(self, params: Mapping[str, Any]) -> object:
        group, requests = params.get("group"), params.get("requests")
        if not isinstance(group, str):
            raise ProtocolError(ErrorCode.INVALID_PARAMS, "group: expected a string")
        if not isinstance(requests, list) or len(requests) > _REHEARSED:
            raise ProtocolError(ErrorCode.INVALID_PARAMS, f"requests: expected a list of at most {_REHEARSED}")
        questions = []
        for index, request in enumerate(requests):
            self._numbers += 1
            questions.append(read_recorded_question(request, f"replay-{self._numbers}", f"requests[{index}]"))
        results: list[dict[str, object]] = []
        for question in questions:
            try:
                verdict = await self._hub.replay(group, question, self._hub.limits.shadow_seconds)
            except ProtocolError as error:
                results.append({"error": error.message})
            else:
                answer = {"code": verdict.code, "enhanced": verdict.enhanced, "text": verdict.text}
                results.append({"decision": verdict.decision} | (answer if verdict.code else {}))
        return {"results": results}


def read_recorded_question(request: object, number: str, where: str) -> Question:
    """Read a recorded question; ``where`` is what an error calls it.

    :raises ProtocolError: naming the field that is wrong.
    """
    if not isinstance(request, dict):
        raise ProtocolError(ErrorCode.INVALID_PARAMS, f"{where}: expected an object")
    phase = next((each for each in PHASES if each == request.get("phase")), None)
    if phase is None:
        raise ProtocolError(ErrorCode.INVALID_PARAMS, f"{where}.phase: expected one of {', '.join(PHASES)}")
    texts = {}
    for name in ("session", "peer", "listener"):
        texts[name] = request.get(name, "")
        if not isinstance(texts[name], str):
            raise ProtocolError(ErrorCode.INVALID_PARAMS, f"{where}.{name}: expected a string")
    contexts = {}
    for name in ("variables", "message_variables"):
        contexts[name] = request.get(name, {})
        values = contexts[name]
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise ProtocolError(ErrorCode.INVALID_PARAMS, f"{where}.{name}: expected an object of strings")
    arguments = request.get("arguments", {})
    if not isinstance(arguments, dict):
        raise ProtocolError(ErrorCode.INVALID_PARAMS, f"{where}.arguments: expected an object")
    return Question(id=number, phase=phase, arguments=arguments, **texts, **contexts)


def _session(params: Mapping[str, Any]) -> str:
    session = params.get("session")
    if not isinstance(session, str):
        raise ProtocolError(ErrorCode.INVALID_PARAMS, "session: expected a string")
    return session


_FREE: Final[Mapping[str, Callable[["Hub"], object]]] = {
    "policy.report": lambda hub: {"shadows": hub.shadow_report()},
    "policy.groups": lambda hub: {"groups": hub.groups()},
}
"""What every client may ask."""

_ADMIN: Final[Mapping[str, Callable[[Control, Mapping[str, Any]], Awaitable[object]]]] = {
    "session.list": Control._list,
    "session.get": Control._get,
    "session.set_variables": Control._set,
    "session.close": Control._close,
    "certificates.list": Control._certificates,
    "certificates.reload": Control._reload,
    "policy.replay": Control._replay,
}
