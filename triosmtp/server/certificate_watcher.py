"""Watch the certificate files of the configuration in force, if TLS_Watch says so."""

import logging
from typing import Final

import trio

from triosmtp.server.service import Service
from triosmtp.tls.certificate_renewal import watch_certificates

__all__ = ["CertificateWatcher"]

_log = logging.getLogger("triosmtp.server")

_RETRY_SECONDS: Final = 30.0
"""Seconds until watching is tried again after an error."""


class CertificateWatcher:
    """Watches the certificate files of one server in ``nursery``."""

    def __init__(self, service: Service, nursery: trio.Nursery) -> None:
        self._service = service
        self._nursery = nursery
        self._watching: trio.CancelScope | None = None

    async def apply(self) -> None:
        """Start or stop to watch, as the configuration in force requires."""
        service = self._service
        wanted = service.config.base.tls_watch and bool(service.tls_settings())
        if self._watching is not None and not wanted:
            self._watching.cancel()
            self._watching = None
        elif self._watching is None and wanted:
            self._watching = trio.CancelScope()
            await self._nursery.start(self._watch, self._watching, name="certificates")

    async def _watch(self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
        service, started = self._service, _FirstStart(task_status)
        try:
            with scope:
                while True:
                    try:
                        await watch_certificates(
                            service.contexts, service.tls_settings, service.emit, task_status=started
                        )
                    except Exception:
                        if not started.is_started:
                            raise
                        # The certificates in force stay in force, and a reload by hand still works.
                        _log.exception("certificates are not watched; trying again in %g s", _RETRY_SECONDS)
                        await trio.sleep(_RETRY_SECONDS)
        finally:
            if self._watching is scope:
                self._watching = None


class _FirstStart:
    """A task status for a function that is called again after an error: only its first start is passed on."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status
        self.is_started = False

    def started(self, value: None = None) -> None:
        if not self.is_started:
            self.is_started = True
            self._task_status.started(value)
