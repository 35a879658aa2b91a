"""Findings in material that can be used: warnings, and reminders of the end of a certificate."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from reload_site import DAY, issued
from tls_peers import root, settings_of

from triosmtp.event import CertificateExpiring
from triosmtp.tls import CertificateFiles, Material, TLSSettings, load_material
from triosmtp.tls.renewal_check import ExpiryCalendar


def test_a_key_that_everybody_can_read_is_a_warning(good: TLSSettings) -> None:
    assert good.certificates[0].key is not None
    good.certificates[0].key.chmod(0o644)
    (warning,) = load_material(good).warnings
    assert (warning.option, warning.path) == ("TLS_Key", good.certificates[0].key)
    assert str(warning) == f'TLS_Key "{good.certificates[0].key}": holds a private key and can be read by every user'
    good.certificates[0].key.chmod(0o640)
    assert load_material(good).warnings == ()


def test_certificates_out_of_their_time_are_warnings(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    old = root().issue("old.example.org", not_before=now - 9 * DAY, not_after=now - DAY)
    new = root().issue("new.example.org", not_before=now + DAY)
    for credential, words in ((old, "expired on "), (new, "is not valid before ")):
        certificate, key = credential.write(tmp_path, "mx")
        (warning,) = load_material(settings_of(certificate, key)).warnings
        assert (warning.option, warning.path) == ("TLS_Certificate", certificate)
        assert words in warning.reason


def ending_in(folder: Path, days: float) -> Material:
    certificate, key = issued(end=timedelta(days=days)).write(folder, f"ends-{days}")
    return load_material(TLSSettings(certificates=(CertificateFiles(certificate, key),)))


def test_reminders_of_the_end_come_once_each(tmp_path: Path) -> None:
    calendar, now = ExpiryCalendar(), datetime.now(UTC)
    material = ending_in(tmp_path, 40)
    told: list[int] = []
    for hours in range(0, 42 * 24, 6):
        events = calendar.due((material, material), now + timedelta(hours=hours))
        told += [event.days for event in events]
    assert told == [29, 13, 6, 2, 0]


def test_a_late_reminder_is_one_and_a_renewal_ends_them(tmp_path: Path) -> None:
    calendar, now = ExpiryCalendar(), datetime.now(UTC)
    short = ending_in(tmp_path, 5.5)
    end = short.certificates[0].leaf.not_after
    assert end is not None
    (event,) = calendar.due((short,), now)
    assert event == CertificateExpiring(
        file=str(short.settings.certificates[0].certificate), subject="CN=mx.example.org", days=5, not_after=end
    )
    assert calendar.due((short,), now) == ()
    assert calendar.due((ending_in(tmp_path, 90),), now) == ()
    (event,) = calendar.due((short,), now + 9 * DAY)
    assert event.days < 0
