"""The tasks in which sessions run: one session after the other in each.

A task and a cancel scope for each session would cost as much as two commands.  So a task whose session has ended waits
for the next one, and keeps its cancel scope until that is cancelled.  Context variables that a session has set do not
exist for the next one.
"""

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Final

import trio

from triosmtp.server.admission import AdmissionTicket
from triosmtp.server.reusable_scope import ReusableScope
from triosmtp.server.service import Service
from triosmtp.server.session.driver import SMTPSession

__all__ = ["IDLE_TASK", "SessionTasks"]

IDLE_TASK: Final = "waits for a session"
"""The name of a task that waits for a session.  One that has a session is named after it."""
_MAX_IDLE: Final = 64
"""Tasks that wait for a session; each takes about 3 KB."""


class _Idle:
    """A task that waits for a session."""

    __slots__ = ("following", "task")

    def __init__(self) -> None:
        self.task = trio.lowlevel.current_task()
        self.following: tuple[SMTPSession, AdmissionTicket] | None = None


class SessionTasks:
    """Runs the sessions of ``service`` in tasks of ``nursery``.  The nursery ends only after :meth:`end_idle`."""

    __slots__ = ("_idle", "_nursery", "_service")

    def __init__(self, service: Service, nursery: trio.Nursery) -> None:
        self._service = service
        self._nursery = nursery
        self._idle: list[_Idle] = []

    @property
    def idle(self) -> int:
        """How many tasks wait for a session."""
        return len(self._idle)

    def start(self, session: SMTPSession, ticket: AdmissionTicket) -> None:
        """Run ``session``, and close ``ticket`` at its end."""
        name = f"session {session.session.id}"
        if self._idle:
            idle = self._idle.pop()
            idle.following = session, ticket
            idle.task.name = name
            idle.task.context = copy_context()  # as a new task has it
            trio.lowlevel.reschedule(idle.task)
        else:
            self._nursery.start_soon(self._run, session, ticket, name=name)

    def end_idle(self) -> None:
        """End the tasks that wait for a session: the server is draining."""
        while self._idle:
            trio.lowlevel.reschedule(self._idle.pop().task)

    async def _run(self, session: SMTPSession, ticket: AdmissionTicket) -> None:
        idle, scope = _Idle(), ReusableScope()
        abort = partial(self._abort, idle)
        try:
            await session.run(ticket, scope)
            del session, ticket  # do not keep them alive while the task waits
            while not scope.is_misnested and (following := await self._wait(idle, abort)) is not None:
                await following[0].run(following[1], scope)
                del following
        finally:
            scope.close()

    async def _wait(
        self, idle: _Idle, abort: Callable[[object], trio.lowlevel.Abort]
    ) -> tuple[SMTPSession, AdmissionTicket] | None:
        """Wait for a session; return None if the task is not needed any more."""
        if self._service.draining or len(self._idle) >= _MAX_IDLE:
            return None
        self._idle.append(idle)
        idle.task.name = IDLE_TASK
        await trio.lowlevel.wait_task_rescheduled(abort)
        following, idle.following = idle.following, None
        return following

    def _abort(self, idle: _Idle, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._idle.remove(idle)
        return trio.lowlevel.Abort.SUCCEEDED
