"""The contexts in force: one for each different set of effective settings, prepared before anybody connects."""

from collections.abc import Mapping

from triosmtp.tls.context import ServerContext, build_context
from triosmtp.tls.material import load_material
from triosmtp.tls.settings import TLSSettings

__all__ = ["ContextStore"]


class ContextStore:
    """A mapping of settings to contexts, swapped whole.

    A connection takes its context once, when its handshake begins, and keeps it: a swap never touches it.
    """

    def __init__(self, contexts: Mapping[TLSSettings, ServerContext] | None = None) -> None:
        self._contexts = dict(contexts or {})

    def prepare(self, settings: TLSSettings) -> ServerContext:
        """Read and build what ``settings`` ask for, where that was not done yet.  Blocking: call it in a thread.

        :raises MaterialError: naming what cannot be used.
        """
        if settings not in self._contexts:
            self._contexts[settings] = build_context(load_material(settings))
        return self._contexts[settings]

    def get(self, settings: TLSSettings) -> ServerContext:
        """Give the context for ``settings``.

        :raises KeyError: where it was not prepared.
        """
        return self._contexts[settings]

    def replace(self, contexts: Mapping[TLSSettings, ServerContext]) -> None:
        """Put ``contexts`` in the place of all there were."""
        self._contexts = dict(contexts)

    def contexts(self) -> tuple[ServerContext, ...]:
        """Give all contexts in force."""
        return tuple(self._contexts.values())
