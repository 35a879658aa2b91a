"""Mutated certificates: the displayed fields and the rights agree with OpenSSL's own reading."""

import hashlib
import os
import random
import re
import subprocess
import warnings
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from der_mutator import Mutator
from OpenSSL import SSL, crypto
from OpenSSL._util import ffi, lib
from rights_site import Site, public_key

from triosmtp import TLSInfo
from triosmtp.config import RelayClient
from triosmtp.server.client_list import ClientList
from triosmtp.tls import CertificateFiles, ServerContext, TLSSettings, build_context, load_material
from triosmtp.tls.tls_info import tls_info
from triosmtp.x509.authority import new_key
from triosmtp.x509.certificate import CertificateFacts, certificate_facts
from triosmtp.x509.distinguished_name import _escaped, printable

JUDGE = os.environ.get("TRIOSMTP_JUDGE") == "1"
TRIES = 100_000 if JUDGE else 600
BY_PROGRAM = 500 if JUDGE else 12
KEY, VICTIM = new_key(), new_key()
OWN, FOREIGN = (hashlib.sha256(public_key(key)).hexdigest() for key in (KEY, VICTIM))
KINDS = {"dns": b"DNS:", "email": b"email:", "uri": b"URI:", "ip": b"IP Address:"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("mutation"))


def loaded(der: bytes) -> crypto.X509 | None:
    with suppress(crypto.Error):
        return crypto.load_certificate(crypto.FILETYPE_ASN1, der)
    return None


def openssl_name(name: crypto.X509Name) -> str:
    """Return a name as OpenSSL's own functions divide and decode it; raise ValueError if they cannot."""
    found = []
    for number in range(lib.X509_NAME_entry_count(name._name)):
        entry = lib.X509_NAME_get_entry(name._name, number)
        octets = ffi.new("unsigned char **")
        size = lib.ASN1_STRING_to_UTF8(octets, lib.X509_NAME_ENTRY_get_data(entry))
        if size < 0:
            with suppress(crypto.Error):
                crypto._raise_current_error()
            raise ValueError
        text = ffi.buffer(octets[0], size)[:].decode("utf-8")
        lib.OPENSSL_free(octets[0])
        kind = lib.OBJ_obj2nid(lib.X509_NAME_ENTRY_get_object(entry))
        found.append(f"{ffi.string(lib.OBJ_nid2sn(kind)).decode()}={_escaped(text)}")
    return "\n".join(reversed(found))


def held_against_openssl(facts: CertificateFacts, certificate: crypto.X509) -> Counter[str]:
    """Hold each field that is shown to be OpenSSL's; count those that are."""
    text = crypto.dump_certificate(crypto.FILETYPE_TEXT, certificate)
    shown: Counter[str] = Counter()
    assert facts.fingerprint_sha256 == certificate.digest("sha256").decode().replace(":", "").lower()
    point = re.search(rb"\n +pub:\n((?: +[0-9a-f:]+\n)+)", text)
    if facts.spki_sha256 is not None and point is not None:
        octets = bytes.fromhex(re.sub(rb"[^0-9a-f]", b"", point[1]).decode())
        own = octets == public_key(KEY)[-65:] and b"ASN1 OID: prime256v1" in text
        assert (facts.spki_sha256 == OWN) is own
        shown["key"] += 1
    for field, name in ((facts.subject, certificate.get_subject()), (facts.issuer, certificate.get_issuer())):
        if field is None:
            continue
        shown["name"] += 1
        if "=#" in field or "UNDEF" in repr(name.get_components()):
            continue  # not decoded: the program is asked about these
        parts = printable(openssl_name(name).replace("\n", "\v"), 1024).replace("\\0B", "\v").split("\v")
        assert re.split(r"\v", field) == parts or field in _joined(parts)
    if facts.serial is not None:
        assert int(facts.serial, 16) == certificate.get_serial_number()
    line = re.search(rb"Subject Alternative Name:[^\n]*\n *([^\n]*)", text)
    at = 0
    for each in facts.sans:
        kind, _, value = each.partition(":")
        assert line is not None
        raw = re.sub(rb"\\([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), value.encode())
        wanted = KINDS[kind] + (raw if kind != "ip" or ":" not in value else b"")
        at = line[1].find(wanted, at)
        assert at >= 0 or b"\0" in raw or b"\n" in raw or b"<unsupported>" in line[1], (each, line[1])
        shown["alternative name"] += 1
        if b"\n" in raw:
            break  # OpenSSL shows the rest on another line
        at = max(at, 0)
    return shown


def _joined(parts: list[str]) -> set[str]:
    """Return every way to write a name of these parts; only the program can tell how they are grouped."""
    found = {parts[0]}
    for part in parts[1:]:
        found = {before + sign + part for before in found for sign in ",+"}
    return found


@cache
def context(folder: Path) -> ServerContext:
    identity = CertificateFiles(folder / "cert.pem", folder / "cert.key")
    return build_context(
        load_material(
            TLSSettings(certificates=(identity,), client_ca=folder / "clientca.pem", request_certificate=True)
        )
    )


def presented(server: ServerContext, certificate: crypto.X509) -> TLSInfo | None:
    """Return the TLS information of a client with that certificate and the test's key; None if there is no session."""
    client_context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    try:
        client_context.use_certificate(certificate)
        client_context.use_privatekey(crypto.PKey.from_cryptography_key(KEY))
        client_context.check_privatekey()
    except (SSL.Error, crypto.Error):
        return None
    client, engine = SSL.Connection(client_context), server.new_engine()
    client.set_connect_state()
    try:
        for _ in range(4):
            with suppress(SSL.WantReadError):
                client.do_handshake()
            with suppress(SSL.WantReadError):
                engine.receive(client.bio_read(1 << 17))
            done = engine.advance()
            if done:
                return tls_info(engine, certificate_requested=True)
            with suppress(SSL.WantReadError):
                client.bio_write(engine.openssl_connection.bio_read(1 << 17))
    except SSL.Error:
        return None
    raise AssertionError("no end of the handshake")


def may(tls: TLSInfo, kind: str, value: str) -> bool:
    return ClientList.from_entries([RelayClient(kind, value)]).holds(tls)  # type: ignore[arg-type]  # a kind as text


def rights_held(tls: TLSInfo, certificate: crypto.X509) -> None:
    """Hold that each right follows from what OpenSSL reads."""
    assert may(tls, "spki", OWN)
    assert not may(tls, "spki", FOREIGN)
    text = crypto.dump_certificate(crypto.FILETYPE_TEXT, certificate)
    # A name may hold the end of a line, so all lines to the end of the extensions are searched.
    extension = re.search(rb"Subject Alternative Name:[^\n]*\n +(.*?)\n    Signature Algorithm", text, re.DOTALL)
    names = b", " + (extension[1] if extension else b"") + b"\n"
    for host in ("victim.example", "client.example", "mx.client.example"):
        if may(tls, "dns", host):
            assert tls.verified
            assert re.search(f", DNS:(?i:{re.escape(host)})[,\n]".encode(), names), "a name that OpenSSL does not read"
    if may(tls, "email", "a@client.example"):
        assert tls.verified
        assert re.search(rb", email:a@(?i:client\.example)[,\n]", names)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mutated_certificates(site: Site) -> None:
    mutator = Mutator(random.Random(os.environ.get("TRIOSMTP_SEED", "12")), site.clients.key, KEY, VICTIM)
    seen: Counter[str] = Counter()
    for _ in range(TRIES):
        while lib.ERR_get_error():  # of OpenSSL's text, below
            pass
        der = mutator.certificate()
        certificate, facts = loaded(der), certificate_facts(der)
        if certificate is None:
            seen["not a certificate to OpenSSL"] += 1
            assert facts == CertificateFacts(fingerprint_sha256=facts.fingerprint_sha256)
            continue
        facts = certificate_facts(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate), every_name=True)
        assert lib.ERR_get_error() == 0, "what is left in the queue would be another connection's error"
        seen += held_against_openssl(facts, certificate)
        tls = presented(context(site.folder), certificate)
        if tls is None:
            continue
        seen["session"] += 1
        seen["verified"] += tls.verified
        rights_held(tls, certificate)
    print(dict(seen))
    assert all(seen[each] > TRIES / 20 for each in ("session", "verified", "key", "name", "alternative name"))


def by_program(path: Path, *options: str) -> str | None:
    command = ["openssl", "x509", "-inform", "DER", "-in", str(path), "-noout", *options]
    run = subprocess.run(command, capture_output=True, check=False)
    return run.stdout.decode("utf-8", "replace").rstrip("\n") if run.returncode == 0 else None


def test_a_sample_against_the_program(site: Site) -> None:
    mutator = Mutator(random.Random(4), site.clients.key, KEY, VICTIM)
    path = site.folder / "mutated.der"
    compared = 0
    while compared < BY_PROGRAM:
        der = mutator.certificate()
        certificate = loaded(der)
        if certificate is None:
            continue
        path.write_bytes(der)
        facts = certificate_facts(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate))
        names = ("-nameopt", "RFC2253,-esc_msb,utf8")
        said = by_program(path, "-serial", "-fingerprint", "-sha256")
        if said is None:
            continue
        compared += 1
        serial, fingerprint = (line.split("=", 1)[1].replace(":", "").lower() for line in said.splitlines())
        assert facts.fingerprint_sha256 == fingerprint
        assert facts.serial in {None, serial}
        for option, shown in (("-subject", facts.subject), ("-issuer", facts.issuer)):
            theirs = by_program(path, option, *names)
            if shown is not None:
                assert theirs is not None
                cut = re.sub(r"\d+(\.\d+)+(?==)", lambda oid: oid[0][:79], shown)  # as long as the program shows it
                assert cut == printable(theirs.split("=", 1)[1], 1024)


def test_the_mutator_leaves_a_good_certificate_good(site: Site) -> None:
    mutator = Mutator(random.Random(1), site.clients.key, KEY, VICTIM)
    certificate = loaded(mutator.base)
    assert certificate is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tls = presented(context(site.folder), certificate)
    assert tls is not None
    assert tls.verified
    assert tls.client_subject == "1.2.3.4=#0C0E76696374696D2E6578616D706C65+CN=client.example,CN=Müller & Söhne,C=DE"
    assert tls.client_sans == (
        "dns:client.example", "email:a@client.example", "ip:192.0.2.1", "uri:victim.example", "dns:mx.client.example",
    )  # fmt: skip
