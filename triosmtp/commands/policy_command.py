"""``triosmtp policy watch``, ``record`` and ``report``: looking at a running server as a policy client."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import trio
from attrs import frozen

from triosmtp.config import Config, Listen, TCPAddress
from triosmtp.errors import QueryError
from triosmtp.policy_client import Notification, PolicyClient, PolicyClientError, PolicyRequestError

__all__ = [
    "PolicyServerAddress", "find_endpoint", "format_json", "format_line", "parse_filter", "record_command",
    "report_command", "watch_command",
]  # fmt: skip

_EX_UNAVAILABLE: Final = 69
_FORMAT: Final = "triosmtp-policy-recording"


@frozen(slots=True)
class PolicyServerAddress:
    """The address of the server, and the token."""

    url: str
    token: str | None


def find_endpoint(
    config: Config | None, url: str | None, token_file: str | None, *, admin: bool = False
) -> PolicyServerAddress:
    """Return where to connect: ``url``, or a Listen of the Policy_Listener, a Unix socket if there is one.

    ``admin`` tells that the token of Admin_Token_File is needed.

    :raises QueryError: if neither tells.
    :raises OSError: if the token cannot be read.
    """
    file = None if token_file is None else Path(token_file)
    if url is None:
        if config is None:
            raise QueryError("where is the server? Give -c FILE or --url URL")
        if not config.policy_listens:
            raise QueryError(f"{config.path}: there is no Policy_Listener")
        listen = min(config.policy_listens, key=lambda each: isinstance(each.address, TCPAddress))
        url = _url(listen, tls=bool(config.resolve(listen, None).tls_certificate))
        if file is None:
            settings = config.resolve(listen, None)
            files = settings.token_file, settings.admin_token_file
            file = (files[1] or files[0]) if admin else (files[0] or files[1])
    return PolicyServerAddress(url, None if file is None else file.read_text("ascii").strip())


def _url(listen: Listen, *, tls: bool) -> str:
    address = listen.address
    if not isinstance(address, TCPAddress):
        return f"unix:{address.path}"
    if not address.port:
        raise QueryError(f'Listen "{listen.name}" has a port of the kernel\'s choice: give --url')
    host = address.host or "127.0.0.1"
    return f"{'wss' if tls else 'ws'}://{f'[{host}]' if ':' in host else host}:{address.port}/"


# watch


def watch_command(endpoint: PolicyServerAddress, filters: Iterable[str], *, as_json: bool) -> int:
    """Print what happens, a line each, until interrupted."""
    wanted = [parse_filter(text) for text in filters]
    client = PolicyClient(endpoint.url, token=endpoint.token, name="watch")

    @client.notification("*")
    async def show(note: Notification) -> None:
        if all(matches(note) for matches in wanted):
            print(format_json(note) if as_json else format_line(note), flush=True)

    async def watch() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            print(f"connected to {endpoint.url}; waiting for events, end it with ^C", file=sys.stderr, flush=True)

    return _run(watch)


def parse_filter(text: str) -> Callable[[Notification], bool]:
    """Return the test that ``KEY=PATTERN`` stands for; the key is a field of the notification, or a variable.

    :raises QueryError: if it is something else.
    """
    key, equals, pattern = text.partition("=")
    if not (key and equals):
        raise QueryError(f"--filter {text!r}: expected KEY=PATTERN, such as method=session.* or tls_client_verified=no")

    def matches(note: Notification) -> bool:
        value = _value(note, key)
        return value is not None and fnmatchcase(value, pattern)

    return matches


def _value(note: Notification, key: str) -> str | None:
    if key == "method":
        return note.method
    for place in (note.params, note.variables, note.params.get("message_variables", {})):
        if key in place:
            value = place[key]
            return value if isinstance(value, str) else json.dumps(value)
    return None


_CONTEXTS: Final = ("variables", "message_variables")


def format_line(note: Notification) -> str:
    """Return a line in which no text of a peer can forge anything: what is not plain is a JSON string."""
    params = note.params
    words = [str(params.get("time", "")), note.method]
    for key, value in params.items():
        if key not in {"time", "sequence", *_CONTEXTS} and value not in (None, "", [], {}):
            words.append(f"{key}={_plain(value)}")
    if note.method in {"session.tls", "session.opened"}:
        words += [f"{key}={_plain(value)}" for key, value in note.variables.items()]
    return " ".join(words)


def _plain(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    safe = text.isascii() and text.isprintable() and not any(c in text for c in ' "=\\')
    return text if safe else json.dumps(text) if isinstance(value, str) else text


def format_json(note: Notification) -> str:
    """Return a notification as JSON on one line."""
    return json.dumps({"method": note.method, **note.params}, separators=(",", ":"))


# record


def record_command(endpoint: PolicyServerAddress, path: Path, *, bodies: bool) -> int:
    """Record sessions into ``path``, a line for each notification, until interrupted; messages too, with ``bodies``."""
    client = PolicyClient(endpoint.url, token=endpoint.token, name="record", bodies=bodies)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    lines = 0
    with open(descriptor, "a", encoding="ascii") as file:  # noqa: PTH123 - it is open already, for its user alone
        if not os.fstat(descriptor).st_size:
            file.write(json.dumps({"format": _FORMAT, "version": 1}) + "\n")
            file.flush()

        @client.notification("session.phase", "session.*", "message.*")
        async def keep(note: Notification) -> None:
            nonlocal lines
            file.write(format_json(note) + "\n")  # whole lines: an interruption comes between them
            file.flush()
            lines += 1

        print(f"recording into {path}; end it with ^C", file=sys.stderr)
        status = _run(client.run)
    print(f"{lines} lines recorded, {client.lost} notifications lost", file=sys.stderr)
    return status


# report


def report_command(endpoint: PolicyServerAddress, *, as_json: bool) -> int:
    """Print what deciders in shadow would have done otherwise."""
    client = PolicyClient(endpoint.url, token=endpoint.token, name="report")
    found: dict[str, Any] = {}

    async def ask() -> None:
        async with client.connect():
            found.update(await client.request("policy.report"))

    status = _run(ask)
    if status:
        return status
    if as_json:
        print(json.dumps(found, indent=2))
    elif not found["shadows"]:
        print("No decider has been in shadow since the server began.")
    for record in () if as_json else found["shadows"]:
        print("\n".join(_report(record)))
    return 0


def _report(record: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{record['group']}/{record['name']} in shadow: asked {record['asked']} times, {record['failed']} not answered",
        f"  sessions  {record['sessions_differing']} of {record['sessions']} would have been treated differently",
        f"  messages  {record['messages_differing']} of {record['messages']} would have been treated differently",
    ]
    for example in record["examples"]:
        named = example["arguments"]
        arguments = " ".join(f"{key}={_plain(named[key])}" for key in ("domain", "sender", "recipient") if key in named)
        said = f" {_plain(example['text'])}" if example["text"] else ""
        lines.append(
            f"  {example['session']} {_plain(example['peer'])} {example['phase']} {arguments}: "
            f"would {example['answer']}{said}; was {_plain(example['outcome'])}"
        )
    return lines


# All of them


def _run(run: Callable[[], Any]) -> int:
    """Run until it ends or a signal comes; return the exit status."""

    async def until_signal() -> None:
        async with trio.open_nursery() as nursery:

            async def stop_on_signal() -> None:
                with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    async for _ in signals:
                        nursery.cancel_scope.cancel()

            nursery.start_soon(stop_on_signal)
            await run()
            nursery.cancel_scope.cancel()

    status = 0
    try:
        trio.run(until_signal)
    except* (PolicyClientError, PolicyRequestError, OSError, trio.BrokenResourceError, trio.TooSlowError) as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        print(f"triosmtp: {str(error) or type(error).__name__}", file=sys.stderr)
        status = _EX_UNAVAILABLE
    return status
