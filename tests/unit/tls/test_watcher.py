"""What a reload takes, what it refuses, and what it says: on the store, without any watcher."""

from base64 import encodebytes
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.serialization import Encoding
from tls_peers import client_context, client_credential, foreign_root, intermediate, meet, root

from triosmtp.event import CertificateExpiring, CertificateReloadFailed, CertificatesReloaded
from triosmtp.tls import CertificateFiles, ContextStore, Material, MaterialError, TLSSettings, load_material
from triosmtp.tls.dh import group_parameters
from triosmtp.tls.validation import ExpiryCalendar
from triosmtp.tls.watcher import CertificateEvent, ReloadOutcome, reload_certificates
from triosmtp.x509.authority import Credential

DAY = timedelta(days=1)


class House:
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


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def issued(
    names: Iterable[str] = ("mx.example.org",), begin: timedelta = -DAY, end: timedelta = 90 * DAY
) -> Credential:
    now = datetime.now(UTC)
    return intermediate().issue("mx.example.org", dns=names, not_before=now + begin, not_after=now + end)


async def test_new_files_are_swapped_in_and_told_of(house: House) -> None:
    settings = house.install()
    first = await house.reload("start")
    assert (first.renewed, dict(first.problems)) == ((settings,), {})
    old = house.store.get(settings)
    house.told()

    renewal = issued()
    renewal.write(house.folder, "mx")
    outcome = await house.reload()
    assert outcome.generation == first.generation + 1 == house.store.generation == house.store.get(settings).generation
    assert house.store.get(settings) is not old
    (event,) = house.told()
    assert isinstance(event, CertificatesReloaded)
    assert (event.reason, event.generation, event.warnings) == ("SIGHUP", outcome.generation, ())
    assert event.file == str(settings.certificates[0].certificate)
    assert set(event.changed) == {str(path) for _, path in settings.files}
    assert (event.subject, event.names) == ("CN=mx.example.org", ("dns:mx.example.org",))
    assert event.fingerprint_sha256 == house.fingerprint(settings)
    assert event.not_after == renewal.certificate.not_valid_after_utc


async def test_nothing_happens_where_nothing_has_changed(house: House) -> None:
    settings = house.install()
    await house.reload("start")
    house.told()
    context, generation = house.store.get(settings), house.store.generation
    for _, path in settings.files:
        path.write_bytes(path.read_bytes())
    outcome = await house.reload()
    assert outcome.renewed == ()
    assert house.told() == []
    assert house.store.get(settings) is context
    assert house.store.generation == outcome.generation == generation


def swapped(_: bytes) -> bytes:
    return issued().certificate_pem


def misordered(_: bytes) -> bytes:
    credential = issued()
    return b"".join(each.public_bytes(Encoding.PEM) for each in (credential.chain[0], foreign_root().certificate))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda _: b"\x00junk", "not in PEM format"),
        (lambda pem: pem[:-40], "is cut off"),
        (lambda _: b"", "is empty"),
        (swapped, "does not match the first certificate"),
        (misordered, 'certificate 1 was not issued by the next one of the file, "CN=Foreign Root"'),
    ],
    ids=["junk", "truncated", "empty", "mismatched", "misordered"],
)
async def test_what_cannot_be_used_changes_nothing_and_stays_visible(house: House, spoil: object, reason: str) -> None:
    assert callable(spoil)
    settings = house.install()
    await house.reload("start")
    house.told()
    good, context = settings.certificates[0].certificate.read_bytes(), house.store.get(settings)
    settings.certificates[0].certificate.write_bytes(spoil(good))
    outcome = await house.reload()
    assert reason in outcome.problems[settings].reason
    (event,) = house.told()
    assert isinstance(event, CertificateReloadFailed)
    assert reason in event.reason
    assert event.option in {"TLS_Certificate", "TLS_Key"}
    assert house.store.get(settings) is context

    # The same failure is not reported again, but remains a problem, with its time.
    (problem,) = house.store.problems
    await house.reload("watch")
    assert house.told() == []
    assert list(house.store.problems) == [problem]
    assert problem.file in [path for _, path in settings.files]

    # Another attempt is.
    settings.certificates[0].certificate.write_bytes(b"more junk")
    await house.reload()
    assert [type(event) for event in house.told()] == [CertificateReloadFailed]
    assert house.store.problems[0].since == problem.since

    settings.certificates[0].certificate.write_bytes(good)
    assert (await house.reload()).problems == {}
    assert not house.store.problems
    assert house.store.get(settings) is context


async def test_a_certificate_that_is_malformed_inside_is_refused_like_any_other(house: House) -> None:
    """Names are read late, by a library that raises only then."""
    bundle = house.folder / "clients.pem"
    bundle.write_bytes(root().certificate_pem)
    settings = house.install(client_ca=bundle, request_certificate=True)
    await house.reload("start")
    der = root().certificate.public_bytes(Encoding.DER)
    name = root().certificate.subject.public_bytes()
    at = der.rindex(name)  # the issuer comes first
    broken = der[: at + 2] + b"\x02" + der[at + 3 :]  # a number in place of a set of attributes
    pem = b"-----BEGIN CERTIFICATE-----\n" + encodebytes(broken) + b"-----END CERTIFICATE-----\n"
    bundle.write_bytes(pem)
    outcome = await house.reload()
    assert outcome.problems[settings].error.option == "TLS_Client_CA"
    assert "certificate 1 (line 1) cannot be parsed" in outcome.problems[settings].reason


async def test_what_one_lacks_stands_in_no_other_s_way(house: House) -> None:
    sick, well = house.install("sick"), house.install("well")
    await house.reload("start")
    house.told()
    before = house.fingerprint(sick), house.fingerprint(well)
    sick.certificates[0].certificate.unlink()
    issued().write(house.folder, "well")
    outcome = await house.reload()
    assert (outcome.renewed, set(outcome.problems)) == ((well,), {sick})
    assert house.fingerprint(sick) == before[0]
    assert house.fingerprint(well) != before[1]
    assert {type(event) for event in house.told()} == {CertificatesReloaded, CertificateReloadFailed}


async def test_a_file_that_many_share_is_told_of_once(house: House) -> None:
    settings = house.install()
    house.wanted.append(evolve(settings, ciphers="HIGH"))
    await house.reload("start")
    assert len(house.told()) == 1
    settings.certificates[0].certificate.write_bytes(b"junk")
    outcome = await house.reload()
    assert len(outcome.problems) == 2
    assert len(house.told()) == len(house.store.problems) == 1


async def test_settings_that_nobody_has_leave_the_store(house: House) -> None:
    gone, kept = house.install("gone"), house.install("kept")
    await house.reload("start")
    adopted = house.store.adopted
    house.wanted.remove(gone)
    await house.reload()
    assert [context.material.settings for context in house.store.contexts()] == [kept]
    assert adopted.is_set()


OLD, FUTURE, VALID = (-10 * DAY, -DAY), (DAY, 10 * DAY), (-DAY, 90 * DAY)


@pytest.mark.parametrize("period", [OLD, FUTURE], ids=["expired", "not yet valid"])
async def test_a_certificate_out_of_its_time(house: House, period: tuple[timedelta, timedelta]) -> None:
    settings = house.install(credential=issued(("a.example", "b.example"), *VALID))
    await house.reload("start")
    house.told()
    good = house.fingerprint(settings)
    issued(("a.example",), *period).write(house.folder, "mx")
    outcome = await house.reload()
    assert "the one in force stays" in outcome.problems[settings].reason
    assert house.fingerprint(settings) == good

    # At start there is nothing better.
    other = House(house.folder)
    other.wanted = house.wanted
    outcome = await other.reload("start")
    assert outcome.renewed == (settings,)
    (event,) = other.told()
    assert isinstance(event, CertificatesReloaded)
    assert len(event.warnings) == 1
    # And one that is out of its time may follow another.
    issued(("a.example",), *OLD).write(house.folder, "mx")
    assert (await other.reload()).renewed == (settings,)


async def test_a_lost_name_is_a_warning(house: House) -> None:
    settings = house.install(credential=issued(("a.example", "b.example")))
    await house.reload("start")
    house.told()
    issued(("a.example", "c.example")).write(house.folder, "mx")
    assert (await house.reload()).renewed == (settings,)
    (event,) = house.told()
    assert isinstance(event, CertificatesReloaded)
    (warning,) = event.warnings
    assert warning.endswith("no longer names dns:b.example, as the certificate before it did")


async def test_self_signed_and_rootless_chains_are_fine_a_broken_one_is_not(house: House) -> None:
    folder = house.folder
    authority = foreign_root()
    alone = Credential((authority.certificate,), authority.key)
    house.install("self-signed", alone)
    whole = issued()
    house.install("with-root", Credential((*whole.chain, root().certificate), whole.key))
    assert (await house.reload("start")).problems == {}
    broken = Credential((whole.chain[0], root().certificate), whole.key)
    with pytest.raises(MaterialError, match="certificate 1 was not issued by the next one of the file"):
        load_material(TLSSettings(certificates=(CertificateFiles(*broken.write(folder, "broken")),)))


async def test_the_client_ca_alone(house: House) -> None:
    bundle = house.folder / "clients.pem"
    bundle.write_bytes(root().certificate_pem + foreign_root().certificate_pem)
    settings = house.install(client_ca=bundle, request_certificate=True)
    await house.reload("start")
    house.told()
    client = client_context(credential=client_credential())
    info, _ = await meet(house.store.get(settings), client)
    assert info.verified
    bundle.write_bytes(foreign_root().certificate_pem)
    await house.reload()
    (event,) = house.told()
    assert isinstance(event, CertificatesReloaded)
    assert event.changed == (str(bundle),)
    info, _ = await meet(house.store.get(settings), client)
    assert not info.verified
    bundle.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert house.store.get(settings) is not None
    outcome = await house.reload()
    assert outcome.problems[settings].error.option == "TLS_Client_CA"


async def test_a_revocation_list_alone(house: House) -> None:
    bundle, revocations = house.folder / "clients.pem", house.folder / "clients.crl"
    bundle.write_bytes(root().certificate_pem)
    revocations.write_bytes(root().revocation_list().public_bytes(Encoding.PEM))
    settings = house.install(client_ca=bundle, client_crls=(revocations,), request_certificate=True)
    await house.reload("start")
    client = client_context(credential=client_credential())
    assert (await meet(house.store.get(settings), client))[0].verified
    listed = root().revocation_list([client_credential().certificate])
    revocations.write_bytes(listed.public_bytes(Encoding.PEM))
    assert (await house.reload()).renewed == (settings,)
    assert not (await meet(house.store.get(settings), client))[0].verified
    revocations.write_bytes(b"junk")
    assert (await house.reload()).problems[settings].error.option == "TLS_Client_CRL"


async def test_junk_for_parameters_and_for_a_staple_is_refused(house: House) -> None:
    parameters = house.folder / "dh.pem"
    parameters.write_bytes(group_parameters(2048))
    settings = house.install(dhparams_file=parameters)
    assert (await house.reload("start")).problems == {}
    parameters.write_bytes(b"junk")
    assert (await house.reload()).problems[settings].error.option == "TLS_DHParams_File"
    parameters.write_bytes(group_parameters(3072))
    assert (await house.reload()).renewed == (settings,)

    staple = house.folder / "staple.der"
    staple.write_bytes(b"junk")
    stapled = TLSSettings(certificates=(evolve(settings.certificates[0], ocsp_response=staple),))
    house.wanted = [stapled]
    assert (await house.reload()).problems[stapled].error.option == "TLS_OCSP_Response"


async def test_a_context_counts_its_sessions_and_outlives_a_swap_only_while_it_has_any(house: House) -> None:
    settings = house.install()
    await house.reload("start")
    context = house.store.get(settings)
    assert context.sessions == 0
    engine = context.new_engine()
    other = context.new_engine()
    assert context.sessions == 2
    other.release()
    assert context.sessions == 1
    issued().write(house.folder, "mx")
    await house.reload()
    assert context.sessions == 1
    del engine
    assert context.sessions == 0


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
