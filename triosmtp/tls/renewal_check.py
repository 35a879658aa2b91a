"""Whether new material may replace the material in force.  A reload refuses some material that a start accepts.

At start, a certificate that is expired or not yet valid is served with a warning, because there is no other.  A reload
that would replace a valid certificate with such a one is refused.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from triosmtp.event import CertificateExpiring, RevocationListExpired
from triosmtp.tls.material import Material
from triosmtp.tls.server_certificate import ServerCertificate, validity_warnings
from triosmtp.tls.settings import MaterialError, MaterialWarning

__all__ = ["ExpiryCalendar", "check_successor"]

_REMINDERS: Final = (30, 14, 7, 3, 1)  # days


def check_successor(material: Material, predecessor: Material) -> tuple[MaterialWarning, ...]:
    """Compare ``material`` with the ``predecessor`` of the same settings, and return warnings.

    :raises MaterialError: if a certificate is out of its time, and those in force there are not.
    """
    for certificate, old in _pairs(material, predecessor):
        path = certificate.paths.certificate
        fault = next(validity_warnings("TLS_Certificate", path, certificate.chain), None)
        if fault is not None and not any(validity_warnings("TLS_Certificate", path, old.chain)):
            raise MaterialError("TLS_Certificate", path, f"{fault.reason}: the one in force stays")
    return tuple(_lost_names(material, predecessor))


def _pairs(material: Material, predecessor: Material) -> Iterator[tuple[ServerCertificate, ServerCertificate]]:
    """Yield pairs of what the same options name: the settings of both are equal, so each has a counterpart."""
    yield from zip(material.every_certificate, predecessor.every_certificate, strict=True)


def _lost_names(material: Material, predecessor: Material) -> Iterator[MaterialWarning]:
    for certificate, old in _pairs(material, predecessor):
        lost = [name for name in old.leaf.sans if name not in certificate.leaf.sans]
        if lost:
            reason = f"no longer names {', '.join(lost)}, as the certificate before it did"
            yield MaterialWarning("TLS_Certificate", certificate.paths.certificate, reason)


class ExpiryCalendar:
    """Remembers of each certificate and revocation list in force which reminder of its end was given."""

    def __init__(self) -> None:
        self._given: dict[tuple[Path, str], int] = {}
        self._expired: frozenset[RevocationListExpired] = frozenset()

    def due(self, materials: tuple[Material, ...], now: datetime) -> tuple[CertificateExpiring, ...]:
        """Return the reminders that are due and were not given: one for each file, the last if several are due."""
        events: list[CertificateExpiring] = []
        given: dict[tuple[Path, str], int] = {}
        for certificate in (certificate for material in materials for certificate in material.every_certificate):
            path = certificate.paths.certificate
            end = certificate.leaf.not_after
            if end is None:
                continue
            key = path, certificate.leaf.fingerprint_sha256
            left = end - now
            reached = [days for days in _REMINDERS if left.total_seconds() <= days * 86400]
            if not reached:
                continue
            if key not in given and reached[-1] < self._given.get(key, _REMINDERS[0] + 1):
                subject = certificate.leaf.subject or ""
                events.append(CertificateExpiring(file=str(path), subject=subject, days=left.days, not_after=end))
            given[key] = reached[-1]
        self._given = given
        return tuple(events)

    def expired_lists(self, materials: tuple[Material, ...], now: datetime) -> tuple[RevocationListExpired, ...]:
        """Return the revocation lists that have expired and were not reported yet, each once."""
        expired = {
            RevocationListExpired(file=str(each.path), issuer=each.issuer, next_update=each.next_update): None
            for material in materials
            for each in material.revocations
            if each.next_update is not None and each.next_update <= now
        }
        news = tuple(each for each in expired if each not in self._expired)
        self._expired = frozenset(expired)
        return news
