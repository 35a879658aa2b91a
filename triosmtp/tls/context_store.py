"""The contexts in force: one for each different set of effective settings, prepared before anybody connects.

They are renewed in two steps.  :func:`renew` reads, checks and builds, in a thread, and changes nothing;
:meth:`ContextStore.adopt` puts the outcome in force with one assignment.  Files that cannot be used change nothing,
and stay in the list of problems until they are replaced.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import trio
from attrs import field, frozen

from triosmtp.tls.context import ServerContext, build_context
from triosmtp.tls.material import load_material, read_files
from triosmtp.tls.pem import Files
from triosmtp.tls.renewal_check import check_successor
from triosmtp.tls.settings import MaterialError, MaterialWarning, TLSSettings

__all__ = ["CertificateProblem", "ContextStore", "Renewal", "renew"]

_log = logging.getLogger("triosmtp.tls")


@frozen(slots=True)
class CertificateProblem:
    """Files that were tried and cannot be used; what was in force before stays in force."""

    error: MaterialError
    """Which option and file, and why."""
    since: datetime
    """When it was first seen that what these settings name is out of order."""
    content: int = field(repr=False)
    """A digest of the files, to know whether they changed since."""

    @property
    def file(self) -> Path | None:
        """The file to blame."""
        return self.error.path

    @property
    def reason(self) -> str:
        """Why it cannot be used."""
        return self.error.reason


@frozen(slots=True, kw_only=True)
class Renewal:
    """The outcome of a look at all files."""

    contexts: Mapping[TLSSettings, ServerContext]
    """All that are to be in force: new ones, and the old ones of files that did not change or cannot be used."""
    renewed: Mapping[TLSSettings, tuple[MaterialWarning, ...]]
    """The settings whose context is new, and what is not as it should be with them."""
    problems: Mapping[TLSSettings, CertificateProblem]
    """The settings whose files cannot be used; without an entry in ``contexts`` if none was in force before."""
    news: frozenset[TLSSettings]
    """Those of ``problems`` that were not known, or whose files changed since."""
    changed: Mapping[TLSSettings, tuple[Path, ...]]
    """The files of each new context that differ from those of the one before."""


@frozen(slots=True)
class _Snapshot:
    contexts: Mapping[TLSSettings, ServerContext]
    problems: Mapping[TLSSettings, CertificateProblem] = field(factory=dict)
    generation: int = 0


class ContextStore:
    """A mapping of settings to contexts, swapped whole.

    A connection takes its context once, when its handshake begins, and keeps it: a swap never touches it.
    """

    def __init__(self, contexts: Mapping[TLSSettings, ServerContext] | None = None) -> None:
        self._snapshot = _Snapshot({})
        self.replace(contexts or {})
        self.lock = trio.Lock()
        """Held from reading files to adopting what came of them, so that nothing older replaces what is newer."""
        self.adopted = trio.Event()
        """Set when something is adopted; then another one takes its place."""

    @property
    def generation(self) -> int:
        """Counts the swaps that brought new contexts: 1 for what the server began with."""
        return self._snapshot.generation

    @property
    def problems(self) -> tuple[CertificateProblem, ...]:
        """The material that could not be used and was not replaced yet; each problem once, though settings share it."""
        return tuple({str(each.error): each for each in self._snapshot.problems.values()}.values())

    def in_force(self, problem: CertificateProblem) -> tuple[ServerContext, ...]:
        """Return the contexts that stay in force as long as ``problem`` is not solved."""
        snapshot = self._snapshot
        troubled = [settings for settings, each in snapshot.problems.items() if str(each.error) == str(problem.error)]
        return tuple(snapshot.contexts[settings] for settings in troubled if settings in snapshot.contexts)

    def prepare(self, settings: TLSSettings) -> ServerContext:
        """Read and build what ``settings`` ask for, if that was not done yet.  Blocking: call it in a thread.

        :raises MaterialError: naming what cannot be used.
        """
        if settings not in self._snapshot.contexts:
            self.replace({**self._snapshot.contexts, settings: build_context(load_material(settings))})
        return self._snapshot.contexts[settings]

    def get(self, settings: TLSSettings) -> ServerContext:
        """Return the context for ``settings``.

        :raises KeyError: if it was not prepared.
        """
        return self._snapshot.contexts[settings]

    def problem(self, settings: TLSSettings) -> CertificateProblem | None:
        """Return what is wrong with the files of ``settings`` at present."""
        return self._snapshot.problems.get(settings)

    def replace(self, contexts: Mapping[TLSSettings, ServerContext]) -> None:
        """Put ``contexts`` in the place of all there were."""
        self._swap(contexts, {})

    def contexts(self) -> tuple[ServerContext, ...]:
        """Return all contexts in force."""
        return tuple(self._snapshot.contexts.values())

    def adopt(self, renewal: Renewal) -> None:
        """Put the contexts of a renewal in force, in one step; remember its problems.  Hold :attr:`lock`."""
        if renewal.contexts == self._snapshot.contexts and renewal.problems == self._snapshot.problems:
            return
        self._swap(renewal.contexts, renewal.problems)
        self.adopted.set()
        self.adopted = trio.Event()

    def _swap(
        self, contexts: Mapping[TLSSettings, ServerContext], problems: Mapping[TLSSettings, CertificateProblem]
    ) -> None:
        generation = max((context.generation for context in contexts.values()), default=0)
        shared = {settings.shared(): context for settings, context in contexts.items()}
        self._snapshot = _Snapshot(shared, problems, max(generation, self._snapshot.generation))


def renew(store: ContextStore, wanted: Iterable[TLSSettings]) -> Renewal:
    """Look at every file of the ``wanted`` settings, once, and build what has changed.  Changes nothing.

    Blocking: call it in a thread.  A problem of one set of settings does not affect the others.
    """
    files: Files = {}
    contexts: dict[TLSSettings, ServerContext] = {}
    renewed: dict[TLSSettings, tuple[MaterialWarning, ...]] = {}
    problems: dict[TLSSettings, CertificateProblem] = {}
    news: set[TLSSettings] = set()
    changed: dict[TLSSettings, tuple[Path, ...]] = {}
    in_force = {context.material.settings: context for context in store.contexts()}
    for settings in dict.fromkeys(wanted):
        old = in_force.get(settings)
        content = read_files(settings, files)
        if old is not None:
            contexts[settings] = old
            if content == old.material.files:
                continue
        try:
            context, warnings = _successor(settings, files, old, store.generation + 1)
        except MaterialError as error:
            digest = hash(frozenset(content.items()))
            known = store.problem(settings)
            if known is not None and known.content == digest and str(known.error) == str(error):
                problems[settings] = known
                continue
            problems[settings] = CertificateProblem(error, known.since if known else datetime.now(UTC), digest)
            news.add(settings)
        else:
            contexts[settings] = context
            renewed[settings] = warnings
            before = {} if old is None else old.material.files
            changed[settings] = tuple(path for path in content if content[path] != before.get(path))
    return Renewal(contexts=contexts, renewed=renewed, problems=problems, news=frozenset(news), changed=changed)


def _successor(
    settings: TLSSettings, files: Files, old: ServerContext | None, generation: int
) -> tuple[ServerContext, tuple[MaterialWarning, ...]]:
    try:
        material = load_material(settings, files)
        warnings = () if old is None else check_successor(material, old.material)
        context = build_context(material, generation)
        return context, (*context.warnings, *warnings)
    except MaterialError:
        raise
    except Exception as error:
        # Files may hold anything, and what the libraries make of that must not end a server that has good ones.
        _log.exception("what the libraries say of certificate files is not understood")
        reason = f"its files cannot be used ({type(error).__name__}: {error})"
        raise MaterialError("TLS_Certificate", settings.certificates[0].certificate, reason) from error
