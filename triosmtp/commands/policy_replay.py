"""``triosmtp policy replay``: ask a policy client about recorded sessions; no mail is received."""

import json
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio
from attrs import frozen

from triosmtp.config import TCPAddress, UnixAddress
from triosmtp.config.types.listen_address import parse_address
from triosmtp.errors import QueryError
from triosmtp.event import PolicyClientConnected, ServerEvent
from triosmtp.message.spool import Body
from triosmtp.policy_service.client_requests import read_recorded_question
from triosmtp.policy_service.hub import ClientAccess, Hub
from triosmtp.policy_service.json_rpc import ProtocolError
from triosmtp.policy_service.question import Outcome, Question, Verdict
from triosmtp.policy_service.recorded_body import decode_body
from triosmtp.policy_service.shadow import describe_outcome, differs_from_outcome
from triosmtp.policy_service.verdict_reader import describe_verdict
from triosmtp.sockets.listener import accept_connections, bind_unix, unlink_own_socket
from triosmtp.sockets.peer import Peer
from triosmtp.sockets.transport import SocketTransport

__all__ = ["load_recording", "replay_command"]

_EX_UNAVAILABLE: Final = 69


@frozen(slots=True)
class Recorded:
    """A phase as it was recorded."""

    question: Question
    outcome: Outcome
    body: Body | None
    """The message, if the recording holds it."""


def load_recording(path: Path) -> Iterator[Recorded]:
    """Read the phases of a recording, in their order.

    :raises QueryError: naming the line that is damaged.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                value = json.loads(line)
                if number == 1 and (value.get("format"), value.get("version")) != ("triosmtp-policy-recording", 1):
                    raise ValueError("this is no recording of `triosmtp policy record`, version 1")
                if value.get("method") != "session.phase":
                    continue
                question = read_recorded_question(value, f"replay-{number}", "the phase")
                body = decode_body(value.get("body"))
                recorded = value["outcome"]
                outcome = Outcome(
                    decision="refused" if recorded["decision"] == "refused" else "accepted",
                    code=int(recorded.get("code") or 0),
                    enhanced=recorded.get("enhanced"),
                    text=str(recorded.get("text", "")),
                    decided_by=str(recorded.get("decided_by", "")),
                )
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise QueryError(f"{path}:{number}: {error}") from None
            except ProtocolError as error:
                raise QueryError(f"{path}:{number}: {error.message}") from None
            yield Recorded(question, outcome, body)


def replay_command(
    recording: Path, listen: str, group: str, token: str | None, *, seconds: float, as_json: bool
) -> int:
    """Simulate the server for a decider of ``group`` that connects to ``listen``, and print its different decisions.

    Return 0 if there is none, 1 if there is one, 69 if no decider connects.
    """
    address = parse_address(listen, Path.cwd())
    if isinstance(address, TCPAddress) and token is None:
        raise QueryError("on TCP a token is always needed: give --token-file, or a path for a Unix socket")
    recorded = list(load_recording(recording))
    print(f"{len(recorded)} phases of {len({r.question.session for r in recorded})} sessions", file=sys.stderr)
    try:
        sock = _bound(address)
    except OSError as error:
        raise QueryError(f"--listen {listen}: {error.strerror}") from None
    try:
        return trio.run(partial(_replay, recorded, sock, listen, group, token, seconds, as_json=as_json))
    finally:
        if isinstance(address, UnixAddress):
            unlink_own_socket(Path(address.path), Path(address.path).lstat().st_ino)
        sock.close()


def _bound(address: TCPAddress | UnixAddress) -> socket.socket:
    if isinstance(address, UnixAddress):
        sock = bind_unix(address)
    else:
        family = socket.AF_INET6 if address.host is not None and ":" in address.host else socket.AF_INET
        sock = socket.create_server((address.host or "127.0.0.1", address.port), family=family)
    sock.listen(16)
    sock.setblocking(False)
    return sock


class _ReplayServer:
    """The substitute for the server: deciders connect to it."""

    def __init__(self, group: str) -> None:
        self.ready = trio.Event()
        self._group = group

    def emit(self, event: ServerEvent) -> None:
        if isinstance(event, PolicyClientConnected) and event.group == self._group and event.role == "decider":
            self.ready.set()


async def _replay(
    recorded: list[Recorded],
    sock: socket.socket,
    listen: str,
    group: str,
    token: str | None,
    seconds: float,
    *,
    as_json: bool,
) -> int:
    hub, server = Hub(), _ReplayServer(group)
    hub.on_event = server.emit
    async with trio.open_nursery() as nursery:

        def take(accepted: socket.socket, peer: Peer) -> None:
            local = accepted.family == socket.AF_UNIX
            access = ClientAccess(listener=listen, peer=peer.text, local=local, token=token)
            nursery.start_soon(hub.serve_client, SocketTransport(accepted), access)

        nursery.start_soon(accept_connections, sock, take)
        name = sock.getsockname()
        where = name if isinstance(name, str) else f"{name[0]}:{name[1]}"
        print(f"waiting at {where} for a decider of {group}", file=sys.stderr, flush=True)
        with trio.move_on_after(seconds) as waiting:
            await server.ready.wait()
        status = _EX_UNAVAILABLE if waiting.cancelled_caught else await _compare(hub, recorded, group, as_json=as_json)
        hub.close_clients(at={listen})
        nursery.cancel_scope.cancel()
    if status == _EX_UNAVAILABLE:
        print(f"triosmtp: no decider of {group} came within {seconds:g} s", file=sys.stderr)
    return status


async def _compare(hub: Hub, recorded: list[Recorded], group: str, *, as_json: bool) -> int:
    counts: Counter[str] = Counter()
    for each in recorded:
        try:
            shown = nullcontext() if each.body is None else hub.offer_body(each.question.id, each.body)
            with shown:
                verdict = await hub.replay(group, each.question, hub.limits.shadow_seconds)
        except ProtocolError as error:
            counts["failed"] += 1
            _print(each, None, error.message, as_json=as_json)
            continue
        different = differs_from_outcome(verdict, each.outcome)
        counts["differs" if different else "same"] += 1
        if different:
            _print(each, verdict, "", as_json=as_json)
    summary_ = {name: counts[name] for name in ("same", "differs", "failed")}
    if as_json:
        print(json.dumps({"summary": summary_}))
    else:
        print(f"{counts['same']} phases the same, {counts['differs']} differ, {counts['failed']} without an answer")
    return 1 if counts["differs"] or counts["failed"] else 0


def _print(each: Recorded, verdict: Verdict | None, error: str, *, as_json: bool) -> None:
    question = each.question
    answer = error if verdict is None else describe_verdict(verdict)
    row: dict[str, Any] = {
        "session": question.session,
        "peer": question.peer,
        "phase": question.phase,
        "recorded": describe_outcome(each.outcome),
        "answer": answer,
    }
    if as_json:
        print(json.dumps(row))
    else:
        words = [json.dumps(text) if not text.isprintable() else text for text in map(str, row.values())]
        print(f"{words[0]} {words[1]} {words[2]}: was {words[3]}; now {words[4]}")
