"""`triosmtp tls show`, `check` and `tlsa`."""

import hashlib
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import AuthorityInformationAccessOID

from triosmtp.cli import main
from triosmtp.testing import Authority
from triosmtp.x509.authority import Credential

CONF = """\
Relay_Domains = ( "example.com" )
Deliver_To = "discard:"
ESMTP_Listener {
  Banner_Hostname = "mx.example.org"
  TLS_Certificate = "mx.pem"
  TLS_Key = "mx.key"
  Listen ":25" {
    SMTP_Extensions = ( "STARTTLS" )
    # more
  }
}
"""


class Place:
    """A folder with a configuration, whose certificates a test may make worse."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.root = Authority.create("Root")
        self.intermediate = self.root.issue_authority("Intermediate")
        self.use(self.intermediate.issue("mx.example.org", dns=["mx.example.org"]))
        self.conf()

    def use(self, credential: Credential, name: str = "mx") -> Credential:
        credential.write(self.folder, name)
        return credential

    def conf(self, more: str = "", **changes: str) -> None:
        text = CONF.replace("# more", more)
        for old, new in changes.items():
            text = text.replace(old, new)
        (self.folder / "t.conf").write_text(text)

    def bundle(self, *authorities: Authority) -> str:
        (self.folder / "ca.pem").write_bytes(b"".join(each.certificate_pem for each in authorities))
        return "ca.pem"

    def run(self, *words: str) -> tuple[int, str, str]:
        code = main(words)
        out, err = self._capsys.readouterr()
        return code, out, err


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Place:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    found = Place(tmp_path, capsys)
    (tmp_path / "system.pem").write_bytes(found.root.certificate_pem)
    return found


def first_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(" ")]


# check


def test_nothing_to_stumble_over(place: Place) -> None:
    assert place.run("tls", "check", "-c", "t.conf") == (0, "TLS valid\n", "")


def test_a_missing_intermediate(place: Place) -> None:
    credential = place.intermediate.issue("mx.example.org", dns=["mx.example.org"])
    place.use(Credential(credential.chain[:1], credential.key))
    code, _, err = place.run("tls", "check", "-c", "t.conf")
    assert (code, len(first_lines(err))) == (0, 1)  # it may be a root of one's own
    assert "warning: TLS_Certificate" in err
    assert "the chain ends below CN=Intermediate" in err
    code, out, err = place.run("tls", "check", "-c", "t.conf", "--ca", place.bundle(place.root))
    assert (code, out) == (1, "1 error in TLS\n")
    assert first_lines(err)[0].startswith('t.conf:5:21: error: TLS_Certificate: "')
    assert "an intermediate is missing: the chain ends below CN=Intermediate" in err


def test_a_missing_intermediate_of_a_public_authority(place: Place) -> None:
    access = x509.AccessDescription(
        AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.example/i.crt")
    )
    extensions = [(x509.AuthorityInformationAccess([access]), False)]
    credential = place.intermediate.issue("mx.example.org", dns=["mx.example.org"], extensions=extensions)
    place.use(Credential(credential.chain[:1], credential.key))
    code, _, err = place.run("tls", "check", "-c", "t.conf")
    assert code == 1
    assert "an intermediate is missing" in err


def test_a_chain_out_of_order(place: Place) -> None:
    second = place.intermediate.issue_authority("Second")
    credential = second.issue("mx.example.org", dns=["mx.example.org"])
    leaf, *above = credential.chain
    place.use(Credential((leaf, *reversed(above)), credential.key))
    code, _, err = place.run("tls", "check", "-c", "t.conf")
    assert code == 1
    assert 'certificate 1 was not issued by the next one of the file, "CN=Intermediate"' in err
    assert "that is certificate 3, which must stand right behind it" in err
    foreign = Authority.create("Foreign").certificate
    place.use(Credential((leaf, foreign), credential.key))
    err = place.run("tls", "check", "-c", "t.conf")[2]
    assert 'certificate 1 was not issued by the next one of the file, "CN=Foreign"' in err
    assert "right behind" not in err


def test_a_root_that_need_not_be_sent(place: Place) -> None:
    credential = place.root.issue("mx.example.org", dns=["mx.example.org"])
    place.use(Credential((*credential.chain, place.root.certificate), credential.key))
    code, _, err = place.run("tls", "check", "-c", "t.conf")
    assert code == 0
    assert "warning" in err
    assert "the root (CN=Root) need not be sent" in err


@pytest.mark.parametrize(("named", "code", "severity"), [(True, 1, "error"), (False, 0, "warning")])
def test_a_name_that_the_banner_does_not_say(place: Place, named: bool, code: int, severity: str) -> None:
    place.conf(**{'Banner_Hostname = "mx.example.org"': 'Banner_Hostname = "mail.example.org"' if named else ""})
    found = place.run("tls", "check", "-c", "t.conf")
    assert found[0] == code
    assert f'{severity}: TLS_Certificate: "' in found[2]
    assert '/mx.pem" is not for ' in found[2]


def test_a_wildcard_is_for_one_label(place: Place) -> None:
    place.use(place.root.issue("x", dns=["*.example.org"]))
    assert place.run("tls", "check", "-c", "t.conf")[0] == 0
    place.use(place.root.issue("x", dns=["*.org", "example.org"]))
    assert place.run("tls", "check", "-c", "t.conf")[0] == 1


def test_a_server_name_that_its_certificate_is_not_for(place: Place) -> None:
    place.use(place.root.issue("a", dns=["a.example.net"]), "a")
    place.conf('Server_Name "b.example.net" { TLS_Certificate = "a.pem" TLS_Key = "a.key" }')
    code, _, err = place.run("tls", "check", "-c", "t.conf")
    assert code == 1
    assert "is not for its Server_Name, b.example.net" in err
    assert first_lines(err)[0].startswith("t.conf:9:")


@pytest.mark.parametrize("days", [-1, 7])
def test_expiry(place: Place, days: int) -> None:
    end = datetime.now(UTC) + timedelta(days=days)
    place.use(place.root.issue("mx.example.org", dns=["mx.example.org"], not_after=end))
    code, _, err = place.run("tls", "check", "-c", "t.conf")
    assert code == (1 if days < 0 else 0)
    assert f"expire{'d' if days < 0 else 's'} on {end:%Y-%m-%d}" in err


def test_a_key_of_another_certificate(place: Place) -> None:
    key = place.root.issue("other").key_pem
    (place.folder / "mx.key").write_bytes(key)
    code, _, err = place.run("tls", "check", "-c", "t.conf")
    assert code == 1
    assert first_lines(err)[0].startswith("t.conf:6:13: error: TLS_Key")
    assert "does not match" in err


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl: the library signs with no weak digest")
def test_a_weak_signature(place: Place) -> None:
    below = place.root.issue_authority("Old")
    old = {"ca.key": place.root.key, "old.key": below.key}
    for name, key in old.items():
        (place.folder / name).write_bytes(Credential((below.certificate,), key).key_pem)
    place.bundle(place.root)
    ask = "openssl req -new -key old.key -subj /CN=Old -out old.csr"
    sign = "openssl x509 -req -sha1 -in old.csr -CA ca.pem -CAkey ca.key -days 9 -out old.pem"
    for command in (ask, sign):
        subprocess.run(command.split(), check=True, capture_output=True)
    leaf = below.issue("mx.example.org", dns=["mx.example.org"])
    weak = x509.load_pem_x509_certificate((place.folder / "old.pem").read_bytes())
    place.use(Credential((leaf.chain[0], weak), leaf.key))
    code, _, err = place.run("tls", "check", "-c", "t.conf")
    assert code == 1
    # OpenSSL before 4.0 refuses the chain itself.
    assert "certificate 2 (CN=Old) has a weak signature: SHA1" in err or "is refused by OpenSSL: ca md too weak" in err


def test_a_weak_key_is_refused_by_openssl_itself(place: Place) -> None:
    place.use(place.root.issue("mx.example.org", dns=["mx.example.org"], key_type="RSA-1024"))
    code, _, err = place.run("tls", "check", "-c", "t.conf")
    assert code == 1
    assert "too small" in err


def test_a_key_that_others_can_read(place: Place) -> None:
    (place.folder / "mx.key").chmod(0o644)
    code, _, err = place.run("tls", "check", "-c", "t.conf")
    assert code == 1
    assert "error: TLS_Key" in err
    assert "can be read by every user" in err
    code, out, err = place.run("check", "-c", "t.conf")
    assert (code, out) == (0, "Configuration valid\n")
    assert "warning: TLS_Key" in err


def test_a_bundle_that_is_none(place: Place) -> None:
    for name, told in (("nope.pem", "No such file"), ("t.conf", "holds no certificate")):
        code, _, err = place.run("tls", "check", "-c", "t.conf", "--ca", name)
        assert code == 78
        assert told in err


# check, the command of the whole configuration


def test_public_authorities_and_the_right_to_relay(place: Place) -> None:
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Let's Encrypt"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "R99"),
        ]
    )
    public = place.root.issue(name)
    (place.folder / "ca.pem").write_bytes(public.certificate_pem + place.root.certificate_pem)
    ca, relay = 'TLS_Client_CA = "ca.pem"', "TLS_Verified_Peer_Can_Relay = true"
    loud = (
        "DANGER: holds 1 public authority (the first: CN=R99,O=Let's Encrypt), and TLS_Verified_Peer_Can_Relay is true"
    )
    for more, warned in ((ca, 0), (f"{ca} {relay}", 1), (f'{ca} {relay} TLS_Relay_Clients = ( "dns:a.example" )', 0)):
        place.conf(more)
        code, _, err = place.run("check", "-c", "t.conf")
        assert code == 0
        assert err.count(loud) == warned, err
    place.conf(f"{ca} TLS_Require_Verified = true")
    _, _, err = place.run("check", "-c", "t.conf")
    assert err.count("and TLS_Require_Verified is true: every holder of a certificate from them may send") == 1, err


# show


def test_show(place: Place) -> None:
    place.use(place.root.issue("rsa", dns=["mx.example.org"], key_type="RSA-2048"), "rsa")
    place.use(place.root.issue("a", dns=["a.example.net"]), "a")
    place.bundle(place.root)
    place.conf(
        """
        TLS_Client_CA = "ca.pem"
        TLS_Client_Purpose = client-or-server
        Server_Name "a.example.net" { TLS_Certificate = "a.pem" TLS_Key = "a.key" }
        Peer "10.0.0.0/8" { TLS_Protocols = "+TLSv1.3" TLS_Verify_Mode = none }
        Peer "192.0.2.0/24" { Idle_Time = 3 }
        Peer "198.51.100.1" { TLS_Certificate = none }
        """,
        **{'"mx.pem"': '( "mx.pem" "rsa.pem" )', '"mx.key"': '( "mx.key" "rsa.key" )'},
    )
    code, out, err = place.run("tls", "show", "-c", "t.conf")
    assert (code, err) == (0, "")
    first, second = out.split("Context 2\n")
    assert first.startswith('Context 1\n  used by     Listen ":25"\n              Listen ":25" Peer "192.0.2.0/24"\n')
    assert "protocols   TLSv1.2 TLSv1.3\n" in first
    assert "  TLSv1.3     TLS_AES_256_GCM_SHA384 " in first
    assert "ECDHE-RSA-AES128-GCM-SHA256" in first
    assert f'a certificate of 1 authority, in "{place.folder}/ca.pem"' in first
    assert "purpose client-or-server" in first
    assert "(the Listen's own), key P-256 in" in first
    assert "(the Listen's own), key RSA-2048 in" in first
    assert '(Server_Name "a.example.net"), key P-256 in' in first
    assert "    1  CN=mx.example.org  (P-256)\n       names      dns:mx.example.org\n" in first
    assert "    2  CN=Intermediate  (P-256)\n       issued by  CN=Root\n       valid " in first
    assert second.startswith('  used by     Listen ":25" Peer "10.0.0.0/8"\n  protocols   TLSv1.3\n')
    assert "TLSv1.2" not in second
    assert "clients     are asked for no certificate\n" in second
    assert second.endswith('Without TLS\n  used by     Listen ":25" Peer "198.51.100.1"\n')


def test_show_tells_which_anchors_are_no_roots(place: Place) -> None:
    place.bundle(place.root, place.intermediate)
    place.conf('TLS_Client_CA = "ca.pem"')
    _, out, _ = place.run("tls", "show", "-c", "t.conf")
    assert "  anchor" not in out
    place.bundle(place.intermediate)
    _, out, _ = place.run("tls", "show", "-c", "t.conf")
    assert [line for line in out.splitlines() if line.startswith("  anchor")] == [
        "  anchor      CN=Intermediate, no root, issued by CN=Root"
    ]
    many = [place.root.issue_authority(f"Issuing {number}") for number in range(12)]
    place.bundle(*many)
    _, out, _ = place.run("tls", "show", "-c", "t.conf")
    assert "  anchor      and 2 more that are no roots" in out.splitlines()


def test_show_needs_what_it_shows(place: Place) -> None:
    (place.folder / "mx.pem").unlink()
    code, out, err = place.run("tls", "show", "-c", "t.conf")
    assert (code, out) == (78, "")
    assert "does not exist" in err


# tlsa


def spki(credential: Credential) -> str:
    public = credential.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()


def test_tlsa_of_certificates_in_force_and_a_next_key(place: Place) -> None:
    mx = place.use(place.root.issue("mx.example.org", dns=["mx.example.org"]))
    named = place.use(place.root.issue("a", dns=["a.example.net"]), "a")
    coming = place.use(place.root.issue("next"), "next")
    place.conf(
        'Server_Name "a.example.net" { TLS_Certificate = "a.pem" TLS_Key = "a.key" }'
        ' Server_Name "*.example.com" { TLS_Certificate = "a.pem" TLS_Key = "a.key" }'
    )
    code, out, err = place.run("tls", "tlsa", "-c", "t.conf", "--next", "next.key")
    assert (code, err) == (0, "")
    assert [line.partition(" ;")[0] for line in out.splitlines()] == [
        f"_25._tcp.mx.example.org. IN TLSA 3 1 1 {spki(mx)}",
        f"_25._tcp.mx.example.org. IN TLSA 3 1 1 {spki(coming)}",
        f"_25._tcp.a.example.net. IN TLSA 3 1 1 {spki(named)}",
        f"_25._tcp.a.example.net. IN TLSA 3 1 1 {spki(coming)}",
    ]


def test_next_may_be_a_private_or_public_key_or_a_certificate(place: Place) -> None:
    coming = place.use(place.root.issue("next"), "next")
    public = coming.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    traditional = coming.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (place.folder / "public.pem").write_bytes(public)
    (place.folder / "ec.pem").write_bytes(traditional)
    (place.folder / "both.pem").write_bytes(coming.certificate_pem + coming.key_pem)
    for name in ("next.key", "next.pem", "public.pem", "ec.pem", "both.pem"):
        out = place.run("tls", "tlsa", "-c", "t.conf", "--next", name)[1]
        assert spki(coming) in out.splitlines()[1], name


def test_next_that_cannot_be_had(place: Place) -> None:
    encrypted = place.root.issue("next").key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (place.folder / "encrypted.pem").write_bytes(encrypted)
    for name, told in (("nope.pem", "No such file"), ("t.conf", "t.conf"), ("encrypted.pem", "is encrypted")):
        code, out, err = place.run("tls", "tlsa", "-c", "t.conf", "--next", name)
        assert (code, out) == (78, "")
        assert err.startswith("error: --next: ")
        assert told in err


def test_tlsa_knows_the_ports_of_the_listens_and_asks_for_a_name(place: Place) -> None:
    mx = place.use(place.root.issue("mx.example.org", dns=["mx.example.org"]))
    place.conf(**{
        '  Banner_Hostname = "mx.example.org"\n': "",
        'Listen ":25" {': 'SMTP_Extensions = ( "STARTTLS" ) Listen ":587" { } Listen "127.0.0.1:465" { }\n'
        '  Listen "/s" { } Listen "[*]:0" { } Listen ":25" {',
    })  # fmt: skip
    code, out, err = place.run("tls", "tlsa", "-c", "t.conf")
    assert (code, out) == (64, "")
    assert 'Listen ":587" has no Banner_Hostname: name the host of the MX record' in err
    code, out, err = place.run("tls", "tlsa", "-c", "t.conf", "MX.example.org.", "mx2.example.org")
    assert (code, err) == (0, "")
    assert sorted(line.partition(" ;")[0] for line in out.splitlines()) == [
        f"_{port}._tcp.{host}.example.org. IN TLSA 3 1 1 {spki(mx)}" for port in (25, 587) for host in ("mx", "mx2")
    ]
    code, out, err = place.run("tls", "tlsa", "-c", "t.conf", "--port", "2525", "mx.example.org")
    assert [line.partition(" ;")[0] for line in out.splitlines()] == [
        f"_2525._tcp.mx.example.org. IN TLSA 3 1 1 {spki(mx)}"
    ]
    code, out, err = place.run("tls", "tlsa", "-c", "t.conf", "not a host")
    assert (code, out) == (64, "")
    assert "expected the name of a host, such as mx.example.org, found 'not a host'" in err


def test_tlsa_of_a_host_that_is_a_server_name(place: Place) -> None:
    place.use(place.root.issue("mx.example.org", dns=["mx.example.org"]))
    named = place.use(place.root.issue("a", dns=["a.example.net"]), "a")
    place.conf('Server_Name "*.example.net" { TLS_Certificate = "a.pem" TLS_Key = "a.key" }')
    out = place.run("tls", "tlsa", "-c", "t.conf", "a.example.net")[1]
    assert [line.partition(" ;")[0] for line in out.splitlines()] == [
        f"_25._tcp.a.example.net. IN TLSA 3 1 1 {spki(named)}"
    ]


def test_tlsa_without_a_port_says_so(place: Place) -> None:
    place.conf(**{'Listen ":25"': 'Listen "/run/smtp"'})
    code, out, err = place.run("tls", "tlsa", "-c", "t.conf")
    assert (code, out) == (64, "")
    assert "no Listen with a certificate has a TCP port that other hosts reach: set the port" in err


def test_an_expired_certificate_is_a_warning_and_check_strict_ends_with_1(place: Place) -> None:
    assert place.run("check", "-c", "t.conf", "--strict") == (0, "Configuration valid\n", "")
    past = datetime.now(UTC) - timedelta(days=1)
    place.use(
        place.intermediate.issue(
            "mx.example.org", dns=["mx.example.org"], not_before=past - timedelta(days=9), not_after=past
        )
    )
    for arguments, status in ((("--strict",), 1), ((), 0)):
        code, out, err = place.run("check", "-c", "t.conf", *arguments)
        assert (code, out) == (status, "Configuration valid\n")
        assert "t.conf:5:21: warning: TLS_Certificate: " in err
        assert "expired on" in err
    place.conf(**{'"mx.pem"': '"nope.pem"'})
    assert place.run("check", "-c", "t.conf", "--strict")[0] == 78
