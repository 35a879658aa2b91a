"""Contexts over certificate files of one folder, which a test replaces and reloads."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import evolve
from tls_peers import intermediate

from triosmtp.tls import CertificateFiles, ContextStore, TLSSettings
from triosmtp.tls.certificate_renewal import CertificateEvent, ReloadOutcome, reload_certificates
from triosmtp.x509.authority import Credential

__all__ = ["DAY", "ReloadSite", "issued"]

DAY = timedelta(days=1)


class ReloadSite:
    """A store over the files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ContextStore()
        self.events: list[CertificateEvent] = []
        self.wanted: list[TLSSettings] = []

    def install(self, name: str = "mx", credential: Credential | None = None, **options: Any) -> TLSSettings:
        certificate, key = (credential or issued()).write(self.folder, name)
        settings = evolve(TLSSettings(certificates=(CertificateFiles(certificate, key),)), **options)
        self.wanted.append(settings)
        return settings

    async def reload(self, reason: str = "SIGHUP") -> ReloadOutcome:
        return await reload_certificates(self.store, lambda: self.wanted, self.events.append, reason=reason)

    def told(self) -> list[CertificateEvent]:
        events = self.events[:]
        self.events.clear()
        return events

    def fingerprint(self, settings: TLSSettings) -> str:
        return self.store.get(settings).material.certificates[0].leaf.fingerprint_sha256


def issued(
    names: Iterable[str] = ("mx.example.org",), begin: timedelta = -DAY, end: timedelta = 90 * DAY
) -> Credential:
    now = datetime.now(UTC)
    return intermediate().issue("mx.example.org", dns=names, not_before=now + begin, not_after=now + end)
