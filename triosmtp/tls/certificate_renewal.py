"""Renewal of the contexts in force when their files change, by any program and in any order.

Directories are watched, never files: a file that is replaced takes its watch with it.  And every directory that holds
an entry on the way to a file (:mod:`.path_entries`): a link further up may be exchanged.  Each round has these steps::

    watch all these directories → read all files, once → check → build → swap
      → wait for a change of any of these entries → wait until they are quiet

So no change between the reading and the watching is missed.  A directory that came back is watched again, and one
that is away is waited for by its nearest ancestor.  If the system reports no change, as with network file systems, the
next round begins after a while all the same.

watchfiles reports what has changed.  It is asked only after a descriptor of :mod:`.inotify` has become readable: an
idle server has nothing to do.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import trio
from attrs import frozen
from watchfiles._rust_notify import RustNotify  # documented; awatch() would poll twenty times a second

from triosmtp.event import CertificateExpiring, CertificateReloadFailed, CertificatesReloaded, RevocationListExpired
from triosmtp.tls.context_store import CertificateProblem, ContextStore, Renewal, renew
from triosmtp.tls.inotify import Inotify
from triosmtp.tls.path_entries import entries_of
from triosmtp.tls.renewal_check import ExpiryCalendar
from triosmtp.tls.settings import TLSSettings

__all__ = ["CertificateEvent", "ReloadOutcome", "reload_certificates", "watch_certificates"]

CertificateEvent: TypeAlias = (
    CertificatesReloaded | CertificateReloadFailed | CertificateExpiring | RevocationListExpired
)

_log = logging.getLogger("triosmtp.tls")

_RESCAN: Final = 30.0
_QUIET: Final = 0.3
"""A program that writes several files has so many seconds between two of them …"""
_LONGEST_WAIT: Final = 1.0
"""… but no longer than this in all: if the changes do not end, the files are tried as they are."""
_GATHER: Final = 0.25
"""Seconds between the kernel's first event and the question to watchfiles what has changed.

The thread of watchfiles has read the same events by then.  In a folder that changes all the time, this is the time
between two questions.  It is below :data:`_QUIET`, so that a change that continues is seen to continue.
"""
_POLL: Final = 0.5
"""Seconds between two questions if there is no inotify."""
_MOMENT: Final = 1  # milliseconds: what is there is wanted, and nothing is waited for


@frozen(slots=True, kw_only=True)
class ReloadOutcome:
    """What :func:`reload_certificates` did."""

    generation: int
    renewed: tuple[TLSSettings, ...]
    """The settings that have a new context."""
    problems: Mapping[TLSSettings, CertificateProblem]
    """The settings whose files cannot be used, now or since a former look; what was in force for them still is."""


async def reload_certificates(
    store: ContextStore,
    settings: Callable[[], Iterable[TLSSettings]],
    tell: Callable[[CertificateEvent], None],
    *,
    reason: str,
) -> ReloadOutcome:
    """Look at every file of ``settings()``, and put in force what has changed and can be used, with one swap.

    Contexts of other settings leave the store.  ``reason`` says in the events who asked.  Never raises for what is
    wrong with files: see :attr:`ReloadOutcome.problems`.
    """
    async with store.lock:
        wanted = tuple(settings())
        # A file system that does not answer must not hold up the end of the server: the thread touches nothing.
        renewal = await trio.to_thread.run_sync(renew, store, wanted, abandon_on_cancel=True)
        solved = [each for each in store.problems if each not in renewal.problems.values()]
        store.adopt(renewal)
        generation = store.generation
    for event in _events(renewal, generation, reason):
        tell(event)
    if solved and not renewal.renewed and not renewal.problems:
        errors = "; ".join(str(each.error) for each in solved)
        _log.info("certificate files are the same as those in use again; solved: %s", errors)
    return ReloadOutcome(generation=generation, renewed=tuple(renewal.renewed), problems=renewal.problems)


def _events(renewal: Renewal, generation: int, reason: str) -> Iterable[CertificateEvent]:
    """Return the events of a renewal: each certificate and each failure once, though settings share it."""
    events: list[CertificateEvent] = []
    for settings, warnings in renewal.renewed.items():
        events += [
            CertificatesReloaded(
                generation=generation,
                reason=reason,
                file=str(certificate.paths.certificate),
                changed=tuple(map(str, renewal.changed[settings])),
                subject=certificate.leaf.subject or "",
                names=certificate.leaf.sans,
                fingerprint_sha256=certificate.leaf.fingerprint_sha256,
                not_before=certificate.leaf.not_before,
                not_after=certificate.leaf.not_after,
                warnings=tuple(map(str, warnings)),
            )
            for certificate in renewal.contexts[settings].material.every_certificate
        ]
    for settings in renewal.problems:
        if settings in renewal.news:
            error = renewal.problems[settings].error
            events.append(CertificateReloadFailed(file=str(error.path or ""), option=error.option, reason=error.reason))
    return dict.fromkeys(events)


async def watch_certificates(
    store: ContextStore,
    settings: Callable[[], Iterable[TLSSettings]],
    tell: Callable[[CertificateEvent], None],
    *,
    rescan: float = _RESCAN,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Reload whenever a file of ``settings()`` has changed, until cancelled; report certificates that expire soon, too.

    Without any change, all is looked at every ``rescan`` seconds.  ``task_status`` says when the first look is over and
    the next change will be seen.
    """
    calendar = ExpiryCalendar()
    troubles: set[str] = set()
    while True:
        adopted = store.adopted
        paths = frozenset(path for each in settings() for _, path in each.files)
        entries = await _entries_of(paths)
        async with _watched(entries, adopted, troubles) as changes:
            await reload_certificates(store, settings, tell, reason="watch")
            for event in _reminders(store, calendar):
                tell(event)
            if await _entries_of(paths) != entries:
                continue  # a link was exchanged while the watch was being set up: it looks at the wrong place
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            with trio.move_on_after(rescan):
                await _settled(changes)


def _reminders(store: ContextStore, calendar: ExpiryCalendar) -> Iterable[CertificateEvent]:
    # Not in the function that waits for changes: old keys would lie in its variables.
    materials, now = tuple(context.material for context in store.contexts()), datetime.now(UTC)
    return (*calendar.due(materials, now), *calendar.expired_lists(materials, now))


async def _entries_of(paths: Iterable[Path]) -> frozenset[Path]:
    return await trio.to_thread.run_sync(entries_of, paths, abandon_on_cancel=True)


@asynccontextmanager
async def _watched(
    entries: frozenset[Path], adopted: trio.Event, troubles: set[str]
) -> AsyncIterator[trio.MemoryReceiveChannel[None]]:
    """Watch ``entries`` while the block runs, and the store; yield a channel that says when anything has changed.

    ``troubles`` holds why nothing could be watched, as far as it was logged before.
    """
    send, changes = trio.open_memory_channel[None](1)
    watch = await trio.to_thread.run_sync(_open_watch, entries, troubles)
    try:
        async with send, changes, trio.open_nursery() as nursery:
            nursery.start_soon(_wake_after, adopted, send)
            if watch is not None:
                nursery.start_soon(_follow, watch, frozenset(map(str, entries)), send, name="certificate files")
            yield changes
            nursery.cancel_scope.cancel()
    finally:  # not before the thread of a question is back: to ask a closed watch is an error
        if watch is not None:
            watch.close()


@frozen(slots=True)
class _Watch:
    """A watch of folders."""

    notify: RustNotify
    """Reports what has changed."""
    inotify: Inotify | None
    """Says when to ask; None: ask every :data:`_POLL` seconds."""

    def close(self) -> None:
        self.notify.close()
        if self.inotify is not None:
            self.inotify.close()


def _open_watch(entries: frozenset[Path], troubles: set[str]) -> _Watch | None:
    """Watch the directories of ``entries``.  None if the system does not: that is logged, once for each reason."""
    folders = sorted({str(entry.parent) for entry in entries})
    try:
        notify = RustNotify(folders, False, False, 0, False, True)
    except (OSError, RuntimeError, ValueError) as error:  # ValueError: a name that is not UTF-8
        text = f"certificate files cannot be watched; they are read every {_RESCAN:g} s: {error}"
        _warn_once(text, troubles)
        return None
    try:
        return _Watch(notify, Inotify(folders))
    except OSError as error:
        _warn_once(f"changes of certificate files are polled every {_POLL:g} s: {error}", troubles)
        return _Watch(notify, None)


def _warn_once(text: str, troubles: set[str]) -> None:
    if text not in troubles:
        troubles.add(text)
        _log.warning("%s", text)


async def _follow(watch: _Watch, names: frozenset[str], send: trio.MemorySendChannel[None]) -> None:
    """Wake the receiver of ``send`` whenever one of ``names`` has changed, or when that cannot be known."""
    while True:
        if watch.inotify is None:
            known = True
            await trio.sleep(_POLL)
        else:
            known = await watch.inotify.wait()
            # Events are read before the sleep: one that comes later wakes this task again, and is asked for then.
            await trio.sleep(_GATHER)
        changed = await trio.to_thread.run_sync(_changed, watch.notify, names)
        if changed or not known:
            _wake(send)


def _changed(notify: RustNotify, names: frozenset[str]) -> bool:
    """Return whether one of ``names`` has changed since the last call."""
    try:
        found = notify.watch(_MOMENT, _MOMENT, _MOMENT, None)
    except RuntimeError as error:
        # watchfiles fails from now on if any entry of a folder has a name that is not UTF-8.  The next round has a
        # new watch.
        _log.debug("which files have changed cannot be known: %s", error)
        return True
    return not isinstance(found, str) and any(path in names for _, path in found)


async def _settled(changes: trio.MemoryReceiveChannel[None]) -> None:
    """Wait for a change, and then until there are no more for a moment."""
    await changes.receive()
    with trio.move_on_after(_LONGEST_WAIT):
        while True:
            with trio.move_on_after(_QUIET) as quiet:
                await changes.receive()
            if quiet.cancelled_caught:
                return


async def _wake_after(event: trio.Event, send: trio.MemorySendChannel[None]) -> None:
    await event.wait()
    _wake(send)


def _wake(send: trio.MemorySendChannel[None]) -> None:
    with suppress(trio.WouldBlock):  # it has been woken already
        send.send_nowait(None)
