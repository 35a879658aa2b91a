"""A process that is started again whenever it ends."""

import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import trio
from attrs import define, field

__all__ = ["FleetError", "Service"]

_PAUSE = 0.5
"""Seconds before a process is started again."""


class FleetError(Exception):
    """The fleet cannot run."""


@define(eq=False, kw_only=True)
class Service:
    """One process.  Its output is in a file."""

    name: str
    command: tuple[str, ...]
    ready_text: bytes
    """The process is ready when its output has this text; if empty, at once."""
    address: str
    """The addresses at which it listens, or what it does, to be printed."""
    folder: Path
    environment: Mapping[str, str] | None = None
    descriptors: tuple[int, ...] = ()
    """File descriptors that it inherits."""
    kills: int = 0
    """How often it ended by a signal."""
    _process: trio.Process | None = None
    _was_ready: bool = False
    _stopping: bool = False
    _ended: trio.Event = field(factory=trio.Event)

    @property
    def log(self) -> Path:
        """The file with its output."""
        return self.folder / f"{self.name}.log"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run it until :meth:`stop`; it counts as started when it is ready.

        :raises FleetError: if it ends before it was ready once.
        """
        try:
            with self.log.open("ab", buffering=0) as log:
                while not self._stopping:
                    await self._run_once(log, task_status)
        finally:
            self._ended.set()

    async def _run_once(self, log: BinaryIO, task_status: "trio.TaskStatus[None]") -> None:
        self._process = process = await trio.lowlevel.open_process(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            pass_fds=self.descriptors,
            start_new_session=True,  # Ctrl-C is for the launcher, which ends the processes in their order
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._copy_output, process, log, task_status)
                status = await process.wait()
                nursery.cancel_scope.deadline = trio.current_time() + 1  # a child may still hold the pipe
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        if self._stopping:
            return
        self.kills += status < 0
        if not self._was_ready:
            output = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
            raise FleetError(f"{self.name} ended with status {status}\n{output}")
        print(f"{self.name}: ended with status {status}, is started again", flush=True)
        await trio.sleep(_PAUSE)

    async def _copy_output(self, process: trio.Process, log: BinaryIO, task_status: "trio.TaskStatus[None]") -> None:
        assert process.stdout is not None
        recent: bytes | None = b""
        async with process.stdout:
            while True:
                if recent is not None and self.ready_text in recent:
                    recent = None
                    print(f"{self.name}: pid {process.pid}, {self.address}", flush=True)
                    if not self._was_ready:
                        self._was_ready = True
                        task_status.started()
                chunk = await process.stdout.receive_some(65536)
                if not chunk:
                    return
                log.write(chunk)
                if recent is not None:
                    recent = recent[-1000:] + bytes(chunk)

    async def stop(self, seconds: float) -> None:
        """Send SIGTERM, wait for the end up to ``seconds``, then kill it."""
        self._stopping = True
        if self._process is None:
            return
        self._process.terminate()
        with trio.move_on_after(seconds):
            await self._ended.wait()
            return
        print(f"{self.name}: does not end, is killed", flush=True)
        self._process.kill()
        await self._ended.wait()
