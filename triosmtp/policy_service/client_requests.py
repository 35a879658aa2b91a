"""The requests of policy clients: sessions, certificates, bodies of messages, and the replay of recorded questions."""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from triosmtp.policy.interface import PHASES
from triosmtp.policy_service.connected_client import ConnectedClient
from triosmtp.policy_service.json_rpc import ErrorCode, ProtocolError, RPCRequest
from triosmtp.policy_service.question import Question
from triosmtp.policy_service.recorded_body import BODY_PART
from triosmtp.policy_service.server_admin import ServerAdmin
from triosmtp.policy_service.verdict_reader import read_variables

if TYPE_CHECKING:
    from triosmtp.policy_service.hub import Hub

__all__ = ["ClientRequests", "read_recorded_question"]

_MAX_RUNNING: Final = 64
"""Requests of one client that run at once."""
_MAX_REPLAYED: Final = 1000
"""Recorded questions in one request."""


class ClientRequests:
    """The methods that a registered client may call."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._replayed = 0
        self._public: Mapping[str, Callable[[], object]] = {
            "policy.report": lambda: {"shadows": hub.shadow_report()},
            "policy.groups": lambda: {"groups": hub.groups()},
        }
        self._admin: Mapping[str, Callable[[Mapping[str, Any]], Awaitable[object]]] = {
            "session.list": self._list_sessions,
            "session.get": self._get_session,
            "session.set_variables": self._set_variables,
            "session.close": self._close_session,
            "certificates.list": self._list_certificates,
            "certificates.reload": self._reload_certificates,
            "policy.replay": self._replay,
        }
        """Methods that need the admin token."""

    async def handle(self, client: ConnectedClient, request: RPCRequest) -> object:
        """Call the method of a request, and return the result.

        :raises ProtocolError: if the method does not exist, is not allowed, or fails.
        """
        public = self._public.get(request.method)
        if public is not None:
            return public()
        method = self._admin.get(request.method)
        reads_body = request.method == "message.body"
        if method is None and not reads_body:
            raise ProtocolError(ErrorCode.METHOD_NOT_FOUND, f"there is no method {request.method[:80]!r}")
        if not client.admin and not reads_body:
            raise ProtocolError(ErrorCode.ADMIN_NEEDED, f"{request.method} needs the token of Admin_Token_File")
        if client.running_requests >= _MAX_RUNNING:
            raise ProtocolError(ErrorCode.FAILED, f"{_MAX_RUNNING} requests are under way already")
        client.running_requests += 1
        try:
            return await (self._read_body(client, request.params) if method is None else method(request.params))
        finally:
            client.running_requests -= 1

    @property
    def _server(self) -> ServerAdmin:
        if self._hub.server is None:
            raise ProtocolError(ErrorCode.FAILED, "there is no server behind this hub")
        return self._hub.server

    async def _read_body(self, client: ConnectedClient, params: Mapping[str, Any]) -> object:
        """Return a part of the message that a decider is asked about."""
        if client.registration is None or not client.registration.decides:
            raise ProtocolError(ErrorCode.FAILED, "message.body is for deciders in mode enforce")
        if not client.access.private:
            raise ProtocolError(ErrorCode.FAILED, "message.body needs a Unix socket or TLS")
        limit = client.access.body_limit
        if not limit:
            raise ProtocolError(ErrorCode.FAILED, "Body_Limit is 0: no message is shown")
        number, part = params.get("question"), params.get("part", 0)
        question = client.open_question(number)
        if question is None or question.phase != "data_spool":
            text = "question: this client is not asked it at data_spool, or not any more"
            raise ProtocolError(ErrorCode.NO_QUESTION, text)
        if isinstance(part, bool) or not isinstance(part, int) or not 0 <= part <= (limit - 1) // BODY_PART:
            raise ProtocolError(ErrorCode.INVALID_PARAMS, "part: expected an integer from 0 on, below Body_Limit")
        start = part * BODY_PART
        found = await self._body_part(question, start, min(BODY_PART, limit - start))
        if found is None:
            raise ProtocolError(ErrorCode.NO_QUESTION, "question: its message is not there any more")
        octets, size = found
        parts = max(1, -(-min(size, limit) // BODY_PART))
        if part >= parts:
            raise ProtocolError(ErrorCode.INVALID_PARAMS, f"part: there are {parts}, and the first is 0")
        data = b64encode(octets).decode("ascii")
        return {"part": part, "parts": parts, "size": size, "truncated": size > limit, "data": data}

    async def _body_part(self, question: Question, start: int, size: int) -> tuple[bytes, int] | None:
        server = self._hub.server
        if server is None:
            return await self._hub.body_part(question.id, start, size)
        return await server.body_part(question.id, question.session, start, size)

    async def _list_sessions(self, _params: Mapping[str, Any]) -> object:
        return {"sessions": await self._server.sessions()}

    async def _get_session(self, params: Mapping[str, Any]) -> object:
        session = await self._server.session(_read_session(params))
        if session is None:
            raise ProtocolError(ErrorCode.NO_SESSION, "there is no such session")
        return session

    async def _set_variables(self, params: Mapping[str, Any]) -> object:
        connection, message = read_variables(params, "connection"), read_variables(params, "message")
        if not await self._server.set_variables(_read_session(params), connection, message):
            raise ProtocolError(ErrorCode.NO_SESSION, "there is no such session")
        return {}

    async def _close_session(self, params: Mapping[str, Any]) -> object:
        if not await self._server.close_session(_read_session(params)):
            raise ProtocolError(ErrorCode.NO_SESSION, "there is no such session")
        return {}

    async def _list_certificates(self, _params: Mapping[str, Any]) -> object:
        return {"certificates": await self._server.certificates()}

    async def _reload_certificates(self, _params: Mapping[str, Any]) -> object:
        return await self._server.reload_certificates()

    async def _replay(self, params: Mapping[str, Any]) -> object:
        group, requests = params.get("group"), params.get("requests")
        if not isinstance(group, str):
            raise ProtocolError(ErrorCode.INVALID_PARAMS, "group: expected a string")
        if not isinstance(requests, list) or len(requests) > _MAX_REPLAYED:
            raise ProtocolError(ErrorCode.INVALID_PARAMS, f"requests: expected a list of at most {_MAX_REPLAYED}")
        questions = []
        for index, request in enumerate(requests):
            self._replayed += 1
            questions.append(read_recorded_question(request, f"replay-{self._replayed}", f"requests[{index}]"))
        results: list[dict[str, object]] = []
        for question in questions:
            try:
                verdict = await self._hub.replay(group, question, self._hub.limits.shadow_seconds)
            except ProtocolError as error:
                results.append({"error": error.message})
            else:
                refusal = {"code": verdict.code, "enhanced": verdict.enhanced, "text": verdict.text}
                results.append({"decision": verdict.decision} | (refusal if verdict.code else {}))
        return {"results": results}


def read_recorded_question(value: object, number: str, place: str) -> Question:
    """Read a recorded question.  ``number`` becomes its id; errors name it with ``place``.

    :raises ProtocolError: if it is invalid; the text names the field.
    """
    if not isinstance(value, dict):
        raise ProtocolError(ErrorCode.INVALID_PARAMS, f"{place}: expected an object")
    phase = next((each for each in PHASES if each == value.get("phase")), None)
    if phase is None:
        raise ProtocolError(ErrorCode.INVALID_PARAMS, f"{place}.phase: expected one of {', '.join(PHASES)}")
    texts = {}
    for name in ("session", "peer", "listener"):
        texts[name] = value.get(name, "")
        if not isinstance(texts[name], str):
            raise ProtocolError(ErrorCode.INVALID_PARAMS, f"{place}.{name}: expected a string")
    contexts = {}
    for name in ("variables", "message_variables"):
        contexts[name] = value.get(name, {})
        values = contexts[name]
        if not isinstance(values, dict) or not all(isinstance(each, str) for each in values.values()):
            raise ProtocolError(ErrorCode.INVALID_PARAMS, f"{place}.{name}: expected an object of strings")
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict):
        raise ProtocolError(ErrorCode.INVALID_PARAMS, f"{place}.arguments: expected an object")
    return Question(id=number, phase=phase, arguments=arguments, **texts, **contexts)


def _read_session(params: Mapping[str, Any]) -> str:
    session = params.get("session")
    if not isinstance(session, str):
        raise ProtocolError(ErrorCode.INVALID_PARAMS, "session: expected a string")
    return session
