"""What a reload takes, what it refuses, and what it says: on the store, without any watcher."""

from base64 import encodebytes
from datetime import timedelta

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.serialization import Encoding
from reload_site import DAY, ReloadSite, issued
from tls_peers import client_context, client_credential, foreign_root, meet, root

from triosmtp.event import CertificateReloadFailed, CertificatesReloaded
from triosmtp.tls import CertificateFiles, MaterialError, TLSSettings, load_material
from triosmtp.tls.dh import group_parameters
from triosmtp.x509.authority import Credential


async def test_new_files_are_swapped_in_and_told_of(site: ReloadSite) -> None:
    settings = site.install()
    first = await site.reload("start")
    assert (first.renewed, dict(first.problems)) == ((settings,), {})
    old = site.store.get(settings)
    site.told()

    renewal = issued()
    renewal.write(site.folder, "mx")
    outcome = await site.reload()
    assert outcome.generation == first.generation + 1 == site.store.generation == site.store.get(settings).generation
    assert site.store.get(settings) is not old
    (event,) = site.told()
    assert isinstance(event, CertificatesReloaded)
    assert (event.reason, event.generation, event.warnings) == ("SIGHUP", outcome.generation, ())
    assert event.file == str(settings.certificates[0].certificate)
    assert set(event.changed) == {str(path) for _, path in settings.files}
    assert (event.subject, event.names) == ("CN=mx.example.org", ("dns:mx.example.org",))
    assert event.fingerprint_sha256 == site.fingerprint(settings)
    assert event.not_after == renewal.certificate.not_valid_after_utc


async def test_nothing_happens_where_nothing_has_changed(site: ReloadSite) -> None:
    settings = site.install()
    await site.reload("start")
    site.told()
    context, generation = site.store.get(settings), site.store.generation
    for _, path in settings.files:
        path.write_bytes(path.read_bytes())
    outcome = await site.reload()
    assert outcome.renewed == ()
    assert site.told() == []
    assert site.store.get(settings) is context
    assert site.store.generation == outcome.generation == generation


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
async def test_what_cannot_be_used_changes_nothing_and_stays_visible(
    site: ReloadSite, spoil: object, reason: str
) -> None:
    assert callable(spoil)
    settings = site.install()
    await site.reload("start")
    site.told()
    good, context = settings.certificates[0].certificate.read_bytes(), site.store.get(settings)
    settings.certificates[0].certificate.write_bytes(spoil(good))
    outcome = await site.reload()
    assert reason in outcome.problems[settings].reason
    (event,) = site.told()
    assert isinstance(event, CertificateReloadFailed)
    assert reason in event.reason
    assert event.option in {"TLS_Certificate", "TLS_Key"}
    assert site.store.get(settings) is context

    # The same failure is not reported again, but remains a problem, with its time.
    (problem,) = site.store.problems
    await site.reload("watch")
    assert site.told() == []
    assert list(site.store.problems) == [problem]
    assert problem.file in [path for _, path in settings.files]

    # Another attempt is.
    settings.certificates[0].certificate.write_bytes(b"more junk")
    await site.reload()
    assert [type(event) for event in site.told()] == [CertificateReloadFailed]
    assert site.store.problems[0].since == problem.since

    settings.certificates[0].certificate.write_bytes(good)
    assert (await site.reload()).problems == {}
    assert not site.store.problems
    assert site.store.get(settings) is context


async def test_a_certificate_that_is_malformed_inside_is_refused_like_any_other(site: ReloadSite) -> None:
    """Names are read late, by a library that raises only then."""
    bundle = site.folder / "clients.pem"
    bundle.write_bytes(root().certificate_pem)
    settings = site.install(client_ca=bundle, request_certificate=True)
    await site.reload("start")
    der = root().certificate.public_bytes(Encoding.DER)
    name = root().certificate.subject.public_bytes()
    at = der.rindex(name)  # the issuer comes first
    broken = der[: at + 2] + b"\x02" + der[at + 3 :]  # a number in place of a set of attributes
    pem = b"-----BEGIN CERTIFICATE-----\n" + encodebytes(broken) + b"-----END CERTIFICATE-----\n"
    bundle.write_bytes(pem)
    outcome = await site.reload()
    assert outcome.problems[settings].error.option == "TLS_Client_CA"
    assert "certificate 1 (line 1) cannot be parsed" in outcome.problems[settings].reason


async def test_a_file_that_many_share_is_told_of_once(site: ReloadSite) -> None:
    settings = site.install()
    site.wanted.append(evolve(settings, ciphers="HIGH"))
    await site.reload("start")
    assert len(site.told()) == 1
    settings.certificates[0].certificate.write_bytes(b"junk")
    outcome = await site.reload()
    assert len(outcome.problems) == 2
    assert len(site.told()) == len(site.store.problems) == 1


OLD, FUTURE, VALID = (-10 * DAY, -DAY), (DAY, 10 * DAY), (-DAY, 90 * DAY)


@pytest.mark.parametrize("period", [OLD, FUTURE], ids=["expired", "not yet valid"])
async def test_a_certificate_out_of_its_time(site: ReloadSite, period: tuple[timedelta, timedelta]) -> None:
    settings = site.install(credential=issued(("a.example", "b.example"), *VALID))
    await site.reload("start")
    site.told()
    good = site.fingerprint(settings)
    issued(("a.example",), *period).write(site.folder, "mx")
    outcome = await site.reload()
    assert "the one in force stays" in outcome.problems[settings].reason
    assert site.fingerprint(settings) == good

    # At start there is nothing better.
    other = ReloadSite(site.folder)
    other.wanted = site.wanted
    outcome = await other.reload("start")
    assert outcome.renewed == (settings,)
    (event,) = other.told()
    assert isinstance(event, CertificatesReloaded)
    assert len(event.warnings) == 1
    # And one that is out of its time may follow another.
    issued(("a.example",), *OLD).write(site.folder, "mx")
    assert (await other.reload()).renewed == (settings,)


async def test_a_lost_name_is_a_warning(site: ReloadSite) -> None:
    settings = site.install(credential=issued(("a.example", "b.example")))
    await site.reload("start")
    site.told()
    issued(("a.example", "c.example")).write(site.folder, "mx")
    assert (await site.reload()).renewed == (settings,)
    (event,) = site.told()
    assert isinstance(event, CertificatesReloaded)
    (warning,) = event.warnings
    assert warning.endswith("no longer names dns:b.example, as the certificate before it did")


async def test_self_signed_and_rootless_chains_are_fine_a_broken_one_is_not(site: ReloadSite) -> None:
    folder = site.folder
    authority = foreign_root()
    alone = Credential((authority.certificate,), authority.key)
    site.install("self-signed", alone)
    whole = issued()
    site.install("with-root", Credential((*whole.chain, root().certificate), whole.key))
    assert (await site.reload("start")).problems == {}
    broken = Credential((whole.chain[0], root().certificate), whole.key)
    with pytest.raises(MaterialError, match="certificate 1 was not issued by the next one of the file"):
        load_material(TLSSettings(certificates=(CertificateFiles(*broken.write(folder, "broken")),)))


async def test_the_client_ca_alone(site: ReloadSite) -> None:
    bundle = site.folder / "clients.pem"
    bundle.write_bytes(root().certificate_pem + foreign_root().certificate_pem)
    settings = site.install(client_ca=bundle, request_certificate=True)
    await site.reload("start")
    site.told()
    client = client_context(credential=client_credential())
    info, _ = await meet(site.store.get(settings), client)
    assert info.verified
    bundle.write_bytes(foreign_root().certificate_pem)
    await site.reload()
    (event,) = site.told()
    assert isinstance(event, CertificatesReloaded)
    assert event.changed == (str(bundle),)
    info, _ = await meet(site.store.get(settings), client)
    assert not info.verified
    bundle.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert site.store.get(settings) is not None
    outcome = await site.reload()
    assert outcome.problems[settings].error.option == "TLS_Client_CA"


async def test_a_revocation_list_alone(site: ReloadSite) -> None:
    bundle, revocations = site.folder / "clients.pem", site.folder / "clients.crl"
    bundle.write_bytes(root().certificate_pem)
    revocations.write_bytes(root().revocation_list().public_bytes(Encoding.PEM))
    settings = site.install(client_ca=bundle, client_crls=(revocations,), request_certificate=True)
    await site.reload("start")
    client = client_context(credential=client_credential())
    assert (await meet(site.store.get(settings), client))[0].verified
    listed = root().revocation_list([client_credential().certificate])
    revocations.write_bytes(listed.public_bytes(Encoding.PEM))
    assert (await site.reload()).renewed == (settings,)
    assert not (await meet(site.store.get(settings), client))[0].verified
    revocations.write_bytes(b"junk")
    assert (await site.reload()).problems[settings].error.option == "TLS_Client_CRL"


async def test_junk_for_parameters_and_for_a_staple_is_refused(site: ReloadSite) -> None:
    parameters = site.folder / "dh.pem"
    parameters.write_bytes(group_parameters(2048))
    settings = site.install(dhparams_file=parameters)
    assert (await site.reload("start")).problems == {}
    parameters.write_bytes(b"junk")
    assert (await site.reload()).problems[settings].error.option == "TLS_DHParams_File"
    parameters.write_bytes(group_parameters(3072))
    assert (await site.reload()).renewed == (settings,)

    staple = site.folder / "staple.der"
    staple.write_bytes(b"junk")
    stapled = TLSSettings(certificates=(evolve(settings.certificates[0], ocsp_response=staple),))
    site.wanted = [stapled]
    assert (await site.reload()).problems[stapled].error.option == "TLS_OCSP_Response"
