"""One test in a process of its own: `triosmtp serve`, its bytecodes counted, and a client in a thread.

`python -m bench.count` starts it.  Nothing here depends on how fast the machine is:

- Trio's clock stands still, so that no timer goes off within a unit.  Between two units it goes on by a moment: what
  waits for a moment, such as a log line, is part of the next unit.
- The client takes the next step when the server has nothing left to do.  Trio asks its clock how long it may sleep
  just then.
- Of all measured units the median counts: a date that is formatted once in a second is not in it.

A system call is a call of a function in C that makes one: methods of sockets, epoll and poll, and what ``os`` has for
descriptors.  Work inside C functions, such as allocation, is not counted.
"""

import json
import os
import select
import socket
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from ssl import SSLContext
from types import BuiltinMethodType, CodeType, FrameType
from typing import Any, Final

import trio
from attrs import define, field

from bench.client import expect_reply, make_context, make_message
from bench.credential import make_credentials
from bench.process import free_port
from bench.scenario import SCENARIOS, Scenario

__all__ = ["FIGURES"]

FIGURES: Final = ("bytecodes", "frames", "task_steps", "system_calls")
_WARM_UP: Final = 4
_UNITS: Final = 11
_MOMENT: Final = 0.02  # seconds between two units, on Trio's clock
_TIMEOUT: Final = 60.0
_FILE_CALLS: Final = frozenset(
    {"close", "fstat", "ftruncate", "lseek", "open", "poll", "pread", "read", "stat", "write"}
)
_NOT_CALLS: Final = frozenset({"detach", "fileno", "gettimeout"})

# Without a watch of files: what others do in the folder for temporary files would wake the server out of step.
_CONFIGURATION: Final = """
{policy}
Relay_Domains = ( "example.com" )
TLS_Watch = false
Deliver_To = "discard:"
Spool_Directory = "{folder}"
Max_Receptions_Per_Connection = 0
Log "stderr" {{ Format = "json" }}
ESMTP_Listener {{
  {tls}
  Listen "127.0.0.1:{port}" {{ }}
}}
"""
_STARTTLS: Final = """
  SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  TLS_Certificate = "{0.server_certificate}"
  TLS_Key = "{0.server_key}"
"""
_CLIENT_CERTIFICATE: Final = """
  TLS_Client_CA = "{0.authority}"
  TLS_Verify_Mode = "require"
"""

_POLICIES: Final = {
    "": "",
    "python": 'Policy = ( "python:counted_policy:Accept" )',
    "websocket": 'Policy = ( "websocket:bench" ) Policy_Listener {{ Listen "{folder}/policy" {{ }} }}',
    "policyd": 'Policy = ( "policyd:unix:{folder}/policyd" )',
    "domain": 'Domain "example.com" {{ Deliver_To = "other" }} Delivery "other" {{ Deliver_To = "discard:" }}',
}
"""The options that decide at MAIL; a policyd decides at RCPT, and a Domain that names a target."""
_PYTHON_POLICY: Final = """
from triosmtp import Policy

class Accept(Policy):
    async def validate_mailfrom(self, session, sender, parameters):
        pass
"""
_DECIDER: Final = """
import sys, trio
from triosmtp.policy_client import PolicyClient

client = PolicyClient("unix:" + sys.argv[1], name="bench", group="bench", variables=["tls*"])

@client.on("mailfrom")
async def check(request):
    pass

async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        print("ready", flush=True)

trio.run(main)
"""
_POLICYD: Final = """
import socket, sys, threading

server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)

def serve(connection):
    with connection.makefile("rwb") as stream:
        for line in stream:
            if line == b"\\n":
                stream.write(b"action=DUNNO\\n\\n")
                stream.flush()

while True:
    threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()
"""
_DECIDERS: Final = {"websocket": (_DECIDER, "policy"), "policyd": (_POLICYD, "policyd")}


class Meter:
    """Counts what the event loop's thread does: a trace function, a profile function, an instrument."""

    def __init__(self) -> None:
        self.functions: Counter[CodeType] = Counter()
        self.frames = 0
        self.steps = 0
        self.calls = 0

    def start(self) -> None:
        """Count from here, in this thread."""
        sys.setprofile(self._profile)
        sys.settrace(self._trace)

    def snapshot(self) -> "Snapshot":
        """Return what was counted so far."""
        return Snapshot(self.functions.copy(), self.frames, self.steps, self.calls)

    def _trace(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        if code.co_filename == __file__ or code.co_filename == _INSTRUMENTATION:
            return None  # they are there for us
        self.frames += 1
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        functions = self.functions

        def count(_frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
            if event == "opcode":
                functions[code] += 1
            return count

        return count

    def _profile(self, _frame: FrameType, event: str, function: object) -> None:
        if event == "c_call" and isinstance(function, BuiltinMethodType) and _is_system_call(function):
            self.calls += 1


_INSTRUMENTATION: Final = sys.modules[trio.lowlevel.add_instrument.__module__].__file__ or ""


def _is_system_call(function: BuiltinMethodType) -> bool:
    owner, name = function.__self__, function.__name__
    if isinstance(owner, socket.socket | select.epoll | type(select.poll())):
        return name not in _NOT_CALLS
    return owner is sys.modules["posix"] and name in _FILE_CALLS


@define(slots=True, eq=False)
class Snapshot:
    """The counts up to a moment, or between two."""

    functions: Counter[CodeType]
    frames: int
    steps: int
    calls: int

    @property
    def bytecodes(self) -> int:
        """The sum over all functions."""
        return self.functions.total()

    def since(self, other: "Snapshot") -> "Snapshot":
        """Return what was counted since ``other``."""
        functions = self.functions - other.functions
        return Snapshot(functions, self.frames - other.frames, self.steps - other.steps, self.calls - other.calls)

    def result(self) -> dict[str, object]:
        """Return the figures, and the bytecodes of each function, for JSON."""
        functions: Counter[str] = Counter()
        for code, count in self.functions.items():
            functions[f"{_module(code.co_filename)}:{code.co_qualname}"] += count
        figures = zip(FIGURES, (self.bytecodes, self.frames, self.steps, self.calls), strict=True)
        return {"figures": dict(figures), "functions": dict(functions.most_common())}


def _module(file: str) -> str:
    """Shorten a path to what is the same in every environment."""
    for folder in sorted(sys.path, key=len, reverse=True):
        if folder and file.startswith(f"{folder}/"):
            return file[len(folder) + 1 :]
    return file.strip("<>").rpartition(" ")[2]  # attrs names the class


class _Steps(trio.abc.Instrument):
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        self._meter.steps += 1


@define(slots=True, eq=False)
class LockstepClock(trio.abc.Clock):
    """A clock that stands still, and tells when Trio begins to wait."""

    now: float = 1000.0
    _waits: "SimpleQueue[None]" = field(factory=SimpleQueue)

    def start_clock(self) -> None:
        """Ignore the call."""

    def current_time(self) -> float:
        """Return the time at which it stands."""
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Wait for I/O alone, unless the time has come; Trio asks when no task can run."""
        if deadline <= self.now:
            return 0
        self._waits.put(None)
        return 3600.0

    def begin_step(self) -> None:
        """Forget that it waited; for the client's thread, while Trio waits."""
        while not self._waits.empty():
            self._waits.get()

    def end_step(self, times: int = 1) -> None:
        """Wait until Trio has begun to wait so many times since.

        :raises queue.Empty: if it does not within a minute.
        """
        for _ in range(times):
            self._waits.get(timeout=_TIMEOUT)


class _Client:
    """One client, in lockstep with the server."""

    def __init__(self, port: int, clock: LockstepClock) -> None:
        self._clock = clock
        clock.begin_step()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT)
        clock.end_step()
        expect_reply(self._socket, b"220")

    def command(self, line: bytes, code: bytes, replies: int = 1) -> None:
        self._clock.begin_step()
        self._socket.sendall(line)
        self._clock.end_step()
        expect_reply(self._socket, code, replies)

    def hello(self, context: SSLContext | None) -> None:
        self.command(b"EHLO load.example.org\r\n", b"250")
        if context is not None:
            self.command(b"STARTTLS\r\n", b"220")
            self._clock.begin_step()
            self._socket = context.wrap_socket(self._socket, server_hostname="localhost")
            self._clock.end_step(times=2)  # after the ClientHello, and after our Finished
            self.command(b"EHLO load.example.org\r\n", b"250")

    def deliver(self, payload: bytes, *, pipelined: bool) -> None:
        lines = (b"MAIL FROM:<load@example.org>\r\n", b"RCPT TO:<sink@example.com>\r\n", b"DATA\r\n")
        if pipelined:
            self.command(b"".join(lines), b"354", replies=3)
        else:
            for line, code in zip(lines, (b"250", b"250", b"354"), strict=True):
                self.command(line, code)
        self.command(payload, b"250")

    def quit(self) -> None:
        self.command(b"QUIT\r\n", b"221")
        with suppress(OSError):
            while self._socket.recv(8192):  # the server closes first
                pass
        self._socket.close()


def _drive(scenario: Scenario, port: int, context: SSLContext | None, clock: LockstepClock, meter: Meter) -> Snapshot:
    """Run all units, and return the counts of the median unit."""
    payload = make_message(scenario.message_size) + b".\r\n"
    client = None
    if scenario.persistent:
        client = _Client(port, clock)
        client.hello(context)
    snapshots = [meter.snapshot()]
    for _ in range(_WARM_UP + _UNITS):
        clock.now += _MOMENT
        if client is not None:
            client.deliver(payload, pipelined=scenario.pipelined)
        else:
            once = _Client(port, clock)
            once.hello(context)
            once.deliver(payload, pipelined=scenario.pipelined)
            once.quit()
        snapshots.append(meter.snapshot())
    units = [after.since(before) for before, after in pairwise(snapshots)][_WARM_UP:]
    return sorted(units, key=lambda unit: unit.bytecodes)[_UNITS // 2]


def _wait_until_served(port: int, clock: LockstepClock) -> None:
    while True:
        clock.end_step()
        with suppress(ConnectionRefusedError):
            _Client(port, clock).quit()
            return


def main() -> None:
    """Serve and count: `python -m bench.counted TEST FOLDER` leaves ``result.json`` in the folder.

    ``TEST`` may name what decides: ``B+python``, ``B+websocket``, ``B+policyd``, ``B+domain``.
    """
    test, _, policy = sys.argv[1].partition("+")
    scenario, folder = SCENARIOS[test], Path(sys.argv[2])
    from triosmtp.daemon.serve_command import serve_command  # noqa: PLC0415 - before the meter runs, and not for the tests
    from triosmtp.tls.handshake_scheduler import HANDSHAKE_SCHEDULER  # noqa: PLC0415 - as well

    credentials = make_credentials(folder)
    port = free_port()
    tls = "" if scenario.security == "plain" else _STARTTLS
    if scenario.security == "client-certificate":
        tls += _CLIENT_CERTIFICATE
    conf = folder / "bench.conf"
    (folder / "counted_policy.py").write_text(_PYTHON_POLICY)
    decides = _POLICIES[policy].format(folder=folder)
    conf.write_text(_CONFIGURATION.format(folder=folder, port=port, tls=tls.format(credentials), policy=decides))
    context = make_context(scenario, credentials)
    clock, meter = LockstepClock(), Meter()
    HANDSHAKE_SCHEDULER._clock = clock.current_time  # noqa: SLF001 - no handshake is slow, however slow the machine is

    def drive() -> None:
        status = 1
        try:
            _wait_until_served(port, clock)
            if policy in _DECIDERS:
                program, place = _DECIDERS[policy]
                decider = [sys.executable, "-c", program, str(folder / place)]
                client = subprocess.Popen(decider, stdout=subprocess.PIPE)
                assert client.stdout is not None
                assert client.stdout.readline() == b"ready\n"
            result = _drive(scenario, port, context, clock, meter)
            (folder / "result.json").write_text(json.dumps(result.result()))
            status = 0
        except Exception:  # noqa: BLE001 - whatever it is, there is no result
            traceback.print_exc()
        if policy in _DECIDERS:
            client.kill()
        os._exit(status)  # an orderly end would wait for a clock that stands still

    run = trio.run
    trio.run = lambda *arguments: run(*arguments, clock=clock, instruments=[_Steps(meter)])
    threading.Thread(target=drive, daemon=True).start()
    meter.start()
    sys.exit(serve_command(str(conf), str(folder / "control")))


if __name__ == "__main__":
    main()
