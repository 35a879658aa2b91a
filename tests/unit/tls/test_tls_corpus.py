"""Certificates that are wrong in one thing each, held against OpenSSL's own program.

`tls_client_verified` is never `yes` if `openssl verify -purpose sslclient` says no; and the session goes on if TLS
itself allows it.
"""

import subprocess
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from der import (
    ALTERNATIVE_NAME,
    BASIC,
    CLIENT_AUTH,
    CONSTRAINTS,
    EC_SHA1,
    EXTENDED_USAGE,
    KEY_USAGE,
    NULL,
    POLICIES,
    Fields,
    common_name,
    element,
    extension,
    integer,
    sequence,
    time,
)
from OpenSSL import SSL, crypto
from tls_peers import VERSIONS, foreign_root, plain_client, root, server_context, shake, taken

from triosmtp.tls.engine import Engine
from triosmtp.tls.handshake_failure import failure_of
from triosmtp.tls.tls_info import tls_info
from triosmtp.variables import TLSInfo
from triosmtp.x509.authority import Authority, Credential

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
USAGE = extension(EXTENDED_USAGE, CLIENT_AUTH)
GOOD = Fields()


def with_extension(oid: str, value: bytes, *, critical: bool = False) -> Fields:
    return evolve(GOOD, extensions=(USAGE, extension(oid, value, critical=critical)))


def usage_alone(value: bytes, *, critical: bool = False) -> Fields:
    return evolve(GOOD, extensions=(extension(EXTENDED_USAGE, value, critical=critical),))


def dns(value: bytes) -> bytes:
    return sequence(element(0x82, value))


POINT_OFF_THE_CURVE = GOOD.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)[:-1] + b"\x00"
RSA_OF_ONE = sequence(
    sequence(bytes.fromhex("06092a864886f70d010101"), NULL),
    element(0x03, b"\x00", sequence(integer((1 << 2047) | 1), integer(1))),
)

FIELDS: dict[str, Fields] = {
    "good": GOOD,
    # extended key usage
    "server authentication alone": usage_alone(sequence(bytes.fromhex("06082b06010505070301"))),
    "e-mail protection alone": usage_alone(sequence(bytes.fromhex("06082b06010505070304"))),
    "any usage": usage_alone(sequence(bytes.fromhex("0604551d2500"))),
    "any usage, critical": usage_alone(sequence(bytes.fromhex("0604551d2500")), critical=True),
    "server authentication, critical": usage_alone(sequence(bytes.fromhex("06082b06010505070301")), critical=True),
    "no usage at all": evolve(GOOD, extensions=()),
    "empty list of usages": usage_alone(sequence()),
    "usage that is not DER": usage_alone(b"\x30\x05\x06"),
    "usage twice": evolve(GOOD, extensions=(USAGE, USAGE)),
    # key usage
    "key usage without signatures": with_extension(KEY_USAGE, b"\x03\x02\x05\x20", critical=True),
    "key usage with signatures": with_extension(KEY_USAGE, b"\x03\x02\x07\x80", critical=True),
    "key usage of nothing": with_extension(KEY_USAGE, b"\x03\x01\x00"),
    "key usage that is not DER": with_extension(KEY_USAGE, b"\x03\x7f"),
    # basic constraints
    "a client that is an authority": with_extension(BASIC, sequence(b"\x01\x01\xff"), critical=True),
    "path length without authority": with_extension(BASIC, sequence(integer(0)), critical=True),
    "path length below zero": with_extension(BASIC, sequence(b"\x01\x01\xff", integer(-1)), critical=True),
    "constraints that are not DER": with_extension(BASIC, b"\x30\x03\x01", critical=True),
    # critical extensions
    "unknown critical extension": with_extension("1.3.6.1.4.1.99999.1", NULL, critical=True),
    "unknown extension": with_extension("1.3.6.1.4.1.99999.1", NULL),
    "name constraints in a leaf": with_extension(
        CONSTRAINTS, sequence(element(0xA0, sequence(dns(b"x")))), critical=True
    ),
    "policies that are not DER": with_extension(POLICIES, b"\x30\x7f", critical=True),
    "policies": with_extension(POLICIES, sequence(sequence(bytes.fromhex("0604551d2000"))), critical=True),
    # names
    "empty subject": evolve(GOOD, subject=sequence()),
    "empty issuer": evolve(GOOD, issuer=sequence()),
    "other issuer": evolve(GOOD, issuer=common_name(b"Nobody")),
    "NUL in the common name": evolve(GOOD, subject=common_name(b"client.example\x00.evil.example")),
    "common name that is not UTF-8": evolve(GOOD, subject=common_name(b"\xff\xfe\xfd")),
    "common name in UTF-16, cut off": evolve(GOOD, subject=common_name(b"\x00a\x00", 0x1E)),
    "common name of another kind": evolve(GOOD, subject=common_name(b"\x01", 0x01)),
    "common name without end": evolve(GOOD, subject=common_name(b"x" * 5000)),
    "alternative name of nothing": with_extension(ALTERNATIVE_NAME, sequence()),
    "alternative name that is not DER": with_extension(ALTERNATIVE_NAME, b"\x30\x20\x82"),
    "alternative name with NUL": with_extension(ALTERNATIVE_NAME, dns(b"a\x00.example")),
    "alternative name not ASCII": with_extension(ALTERNATIVE_NAME, dns(b"\xc3\xa4.example")),
    "address of three octets": with_extension(ALTERNATIVE_NAME, sequence(element(0x87, b"\x01\x02\x03"))),
    "alternative names of a kind nobody knows": with_extension(ALTERNATIVE_NAME, sequence(element(0x9F, b"x"))),
    # time
    "expired": evolve(GOOD, not_before=time(NOW - 3 * DAY), not_after=time(NOW - DAY)),
    "not yet valid": evolve(GOOD, not_before=time(NOW + DAY)),
    "ends before it begins": evolve(GOOD, not_before=time(NOW + 2 * DAY), not_after=time(NOW + DAY)),
    "time without Z": evolve(GOOD, not_after=element(0x17, b"400101000000")),
    "time with a zone": evolve(GOOD, not_after=element(0x17, b"400101000000+0100")),
    "time of no month": evolve(GOOD, not_after=element(0x17, b"401301000000Z")),
    "time that is text": evolve(GOOD, not_before=element(0x17, b"yesterday")),
    "time far away": evolve(GOOD, not_after=element(0x18, b"99991231235959Z")),
    # numbers and algorithms
    "serial of zero": evolve(GOOD, serial=integer(0)),
    "serial below zero": evolve(GOOD, serial=integer(-5)),
    "serial of 200 octets": evolve(GOOD, serial=element(0x02, b"\x7f" * 200)),
    "version 1 with extensions": evolve(GOOD, version=b""),
    "version 1": evolve(GOOD, version=b"", extensions=()),
    "version 9": evolve(GOOD, version=bytes.fromhex("a003020108")),
    "two signature algorithms": evolve(GOOD, inner_algorithm=bytes.fromhex("300a06082a8648ce3d040303")),
    "signature algorithm unknown": evolve(
        GOOD, inner_algorithm=sequence(b"\x06\x02\x2a\x03"), outer_algorithm=sequence(b"\x06\x02\x2a\x03")
    ),
    "signature said to be RSA": evolve(
        GOOD,
        inner_algorithm=bytes.fromhex("300d06092a864886f70d01010b0500"),
        outer_algorithm=bytes.fromhex("300d06092a864886f70d01010b0500"),
    ),
    # keys
    "signed with SHA-1": evolve(GOOD, inner_algorithm=EC_SHA1, outer_algorithm=EC_SHA1, digest=hashes.SHA1()),
    "point off the curve": evolve(GOOD, public_key=POINT_OFF_THE_CURVE),
    "RSA with exponent 1": evolve(GOOD, public_key=RSA_OF_ONE),
    "key of an unknown kind": evolve(
        GOOD, public_key=sequence(sequence(b"\x06\x02\x2a\x03"), element(0x03, b"\x00\x01"))
    ),
    "more behind the extensions": evolve(GOOD, behind=NULL),
}


FATAL = {
    "common name that is not UTF-8": "certificate_unparsable",
    "common name in UTF-16, cut off": "certificate_unparsable",
    "common name of another kind": "certificate_unparsable",
    "time without Z": "certificate_unparsable",
    "time that is text": "certificate_unparsable",
    "point off the curve": "certificate_unparsable",
    "key of an unknown kind": "certificate_unparsable",
    "more behind the extensions": "certificate_unparsable",
    "RSA with exponent 1": "bad_certificate_proof",
}
"""What TLS itself ends the session for: no callback is asked."""


def authority(*extensions: tuple[x509.ExtensionType, bool], **others: Any) -> Authority:
    return root().issue_authority("Corpus Intermediate", extensions=extensions, **others)


def below(above: Authority, **others: Any) -> Credential:
    given: dict[str, Any] = {"dns": ["client.example"], "email": ["a@client.example"], "ip": ["192.0.2.1"]}
    return above.issue("client.example", usage=["client"], **(given | others))


def constrained(permitted: list[x509.GeneralName] | None, excluded: list[x509.GeneralName] | None) -> Credential:
    return below(authority((x509.NameConstraints(permitted, excluded), True)))


def by_hand(*extensions: bytes, **fields: Any) -> Credential:
    """Return a leaf below an intermediate that has these extensions and no others."""
    above = Fields(subject=common_name(b"By Hand"), extensions=extensions, **fields)
    certificate = x509.load_der_x509_certificate(above.signed_by(root()))
    return below(Authority(certificate, above.key, (certificate,)))


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), NULL)
IS_AUTHORITY = extension(BASIC, sequence(b"\x01\x01\xff"), critical=True)
SIGNS = extension(KEY_USAGE, b"\x03\x02\x02\x04", critical=True)

CHAINS: dict[str, Callable[[], Credential]] = {
    "good": lambda: below(authority()),
    "name permitted": lambda: constrained([x509.DNSName("client.example")], None),
    "name not permitted": lambda: constrained([x509.DNSName("other.example")], None),
    "name excluded": lambda: constrained(None, [x509.DNSName("example")]),
    "other name excluded": lambda: constrained(None, [x509.DNSName("other.example")]),
    "address not permitted": lambda: constrained([x509.IPAddress(ip_network("198.51.100.0/24"))], None),
    "mailbox excluded": lambda: constrained(None, [x509.RFC822Name("client.example")]),
    "directory name not permitted": lambda: constrained([x509.DirectoryName(root().certificate.subject)], None),
    "path length kept": lambda: below(authority(path_length=0)),
    "path too long": lambda: below(authority(path_length=0).issue_authority("Too Deep")),
    "path too long by two": lambda: below(
        authority(path_length=1).issue_authority("Deep").issue_authority("Deeper").issue_authority("Deepest")
    ),
    "unknown critical extension above": lambda: below(authority((UNKNOWN, True))),
    "unknown extension above": lambda: below(authority((UNKNOWN, False))),
    "expired above": lambda: below(authority(not_after=NOW - DAY)),
    "authority for servers alone": lambda: below(
        authority((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False))
    ),
    "weak key above": lambda: below(authority(key_type="RSA-1024")),
    "weak key": lambda: below(authority(), key_type="RSA-1024"),
    "by hand, good": lambda: by_hand(IS_AUTHORITY, SIGNS),
    "above is no authority": lambda: by_hand(SIGNS),
    "above must not sign": lambda: by_hand(IS_AUTHORITY, extension(KEY_USAGE, b"\x03\x02\x07\x80", critical=True)),
    "above is of version 1": lambda: by_hand(version=b""),
    "above is not yet valid": lambda: by_hand(IS_AUTHORITY, SIGNS, not_before=time(NOW + DAY)),
    "above is signed with SHA-1": lambda: by_hand(
        IS_AUTHORITY, SIGNS, inner_algorithm=EC_SHA1, outer_algorithm=EC_SHA1, digest=hashes.SHA1()
    ),
    "order of the chain is wrong": lambda: _reversed(below(authority().issue_authority("Second"))),
    "a foreign root in the chain": lambda: _with_foreign_root(below(authority())),
}


def _reversed(credential: Credential) -> Credential:
    leaf, *rest = credential.chain
    return Credential((leaf, *reversed(rest)), credential.key)


def _with_foreign_root(credential: Credential) -> Credential:
    leaf, *rest = credential.chain
    return Credential((leaf, foreign_root().certificate, *rest), credential.key)


def asked_openssl(leaf: bytes, others: list[bytes], path: Path) -> int:
    """Return the first error number of OpenSSL's own program; 0 if it accepts the leaf, -1 if it cannot read it."""
    (path / "root.pem").write_bytes(root().certificate_pem)
    (path / "leaf.pem").write_bytes(pem(leaf))
    command = ["openssl", "verify", "-purpose", "sslclient", "-auth_level", "2", "-CAfile", "root.pem", "-no-CApath"]
    if others:
        (path / "rest.pem").write_bytes(b"".join(map(pem, others)))
        command += ["-untrusted", "rest.pem"]
    run = subprocess.run([*command, "-no-CAstore", "leaf.pem"], cwd=path, capture_output=True, text=True, check=False)
    said = (run.stdout + run.stderr).split("error ", 1)
    if run.returncode == 0:
        return 0
    number = said[1].split()[0] if len(said) > 1 else ""
    return int(number) if number.isdigit() else -1


def pem(der: bytes) -> bytes:
    run = subprocess.run(["openssl", "base64"], input=der, capture_output=True, check=True)
    return b"-----BEGIN CERTIFICATE-----\n" + run.stdout + b"-----END CERTIFICATE-----\n"


def presented(version: str, leaf: bytes, others: list[bytes], key: bytes) -> TLSInfo | str:
    """Let a client present what it may; return what the server learnt, or why it ended the handshake.

    If OpenSSL's own client cannot be made to send such a certificate, it replaces a good one on the way.  TLS 1.2 does
    not encrypt it.
    """
    try:
        client = client_with(version, leaf, others, key)
    except (crypto.Error, SSL.Error):
        return spliced(leaf)
    engine = Engine(server_context().context)
    try:
        shake(engine, client)
    except SSL.Error as error:
        return failure_of(error, 0x16)[0]
    return tls_info(engine, certificate_requested=True)


def client_with(version: str, leaf: bytes, others: list[bytes], key: bytes) -> SSL.Connection:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    number = SSL.TLS1_2_VERSION if version == "TLSv1.2" else SSL.TLS1_3_VERSION
    context.set_min_proto_version(number)
    context.set_max_proto_version(number)
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pyOpenSSL's own classes take what cryptography refuses
        context.use_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, leaf))
        for each in others:
            context.add_extra_chain_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, each))
        context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, key))
    context.check_privatekey()
    client = SSL.Connection(context)
    client.set_connect_state()
    return client


def spliced(leaf: bytes) -> str:
    good = root().issue("client.example")
    engine, client = Engine(server_context().context), plain_client("TLSv1.2", good)
    for _ in range(2):
        with pytest.raises(SSL.WantReadError):
            client.do_handshake()
        flight = taken(client)
        if flight.startswith(b"\x16") and flight[5] == 0x01:
            engine.receive(flight)
            assert not engine.advance()
            client.bio_write(engine.output())
    size = int.from_bytes(flight[3:5], "big")
    body = (len(leaf) + 3).to_bytes(3, "big") + len(leaf).to_bytes(3, "big") + leaf
    message = b"\x0b" + len(body).to_bytes(3, "big") + body
    engine.receive(b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message + flight[5 + size :])
    try:
        assert not engine.advance(), "a certificate was taken without proof"
    except SSL.Error as error:
        return failure_of(error, 0x16)[0]
    raise AssertionError("neither taken nor refused")


def judged(leaf: bytes, others: list[bytes], key: bytes, path: Path) -> tuple[int, set[int | str]]:
    """Ask both, and assert the rules for every certificate; return what each said."""
    theirs = asked_openssl(leaf, others, path)
    ours: set[int | str] = set()
    for version in VERSIONS:
        outcome = presented(version, leaf, others, key)
        if isinstance(outcome, str):
            ours.add(outcome)
            continue
        assert outcome.client_certificate == leaf
        assert theirs == 0 or not outcome.verified, "verified against OpenSSL's own word"
        assert outcome.verified is (outcome.verify_error is None)
        assert outcome.variables()["tls_client_verified"] == ("yes" if outcome.verified else "no")
        ours.add(outcome.verify_code)
    return theirs, ours


@pytest.mark.parametrize("name", FIELDS)
def test_a_certificate_that_is_wrong_in_one_thing(name: str, tmp_path: Path) -> None:
    fields = FIELDS[name]
    key = fields.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    theirs, ours = judged(fields.signed_by(root()), [], key, tmp_path)
    assert ours == {FATAL.get(name, theirs)}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_that_is_wrong_in_one_thing(name: str, tmp_path: Path) -> None:
    credential = CHAINS[name]()
    leaf, *others = (certificate.public_bytes(Encoding.DER) for certificate in credential.chain)
    theirs, ours = judged(leaf, others, credential.key_pem, tmp_path)
    assert ours == {theirs}
