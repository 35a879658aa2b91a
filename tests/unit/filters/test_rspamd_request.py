"""The fields of a request to rspamd."""

from ipaddress import ip_address

from triosmtp.filters.rspamd_request import TLS_HEADERS, request_headers
from triosmtp.message import Envelope, Recipient
from triosmtp.policy import Authenticated, Session
from triosmtp.smtp import parse_path
from triosmtp.variables import TLSInfo


def session(tls: TLSInfo | None = None) -> Session:
    found = Session(
        id="s-1", listener=":25", peer="192.0.2.7:4711", peer_address=ip_address("192.0.2.7"), local="x", tls=tls
    )
    if tls is not None:
        found.variables.record(tls.variables())
    return found


def envelope(sender: str = "<a@example.org>", *recipients: str) -> Envelope:
    return Envelope(
        parse_path(sender.encode(), utf8=False),
        {},
        [Recipient(parse_path(each.encode(), utf8=False), {}) for each in recipients],
    )


def headers(of: Session, about: Envelope | None = None, settings_id: str = "") -> list[tuple[str, str]]:
    about = about or envelope("<a@example.org>", "<b@example.com>")
    return list(request_headers(of, about, "s-1-1", hostname="mx.example.com", settings_id=settings_id))


COMMON = [("Queue-ID", "s-1-1"), ("MTA-Name", "mx.example.com"), ("MTA-Tag", "triosmtp")]


def test_a_plain_session() -> None:
    assert headers(session()) == [
        ("From", "a@example.org"), ("Rcpt", "b@example.com"), *COMMON, ("IP", "192.0.2.7"),
    ]  # fmt: skip


def test_the_null_sender_many_recipients_and_a_client_without_an_address() -> None:
    unix = Session(id="s-1", listener=":25", peer="unix", peer_address=None, local="x")
    found = headers(unix, envelope("<>", "<b@example.com>", "<c@example.com>"), "strict")
    assert found == [
        ("From", "<>"), ("Rcpt", "b@example.com"), ("Rcpt", "c@example.com"), *COMMON, ("Settings-ID", "strict"),
    ]  # fmt: skip


def test_names_and_the_user_are_bounded() -> None:
    found = session()
    found.auth = Authenticated("PLAIN", "j" * 5000)
    found.variables.record({"ehlo_domain": "h" * 5000, "xclient_name": "mail.example.org"})
    by_name = dict(headers(found))
    assert (len(by_name["User"]), len(by_name["Helo"]), by_name["Hostname"]) == (1024, 1024, "mail.example.org")


def test_the_host_name_is_the_one_that_the_dns_confirmed_or_that_was_announced() -> None:
    found = session()
    found.variables.record({"reverse_client_name": "liar.example.org", "client_name": "unknown"})
    assert "Hostname" not in dict(headers(found))
    found.variables.record({"client_name": "mail.example.org"})
    assert dict(headers(found))["Hostname"] == "mail.example.org"
    found.variables.record({"xclient_name": "announced.example.org"})
    assert dict(headers(found))["Hostname"] == "announced.example.org"


def test_the_issuer_is_named_only_if_the_certificate_verified() -> None:
    facts = {"protocol": "TLSv1.3", "cipher": "X", "cipher_algbits": 256, "cipher_usebits": 256}
    claimed = TLSInfo(**facts, client_certificate=b"x", client_issuer="CN=Root", verify_error="expired")  # type: ignore[arg-type]
    proven = TLSInfo(**facts, client_certificate=b"x", client_issuer="CN=Root", verified=True)  # type: ignore[arg-type]
    by_name = dict(headers(session(claimed)))
    assert (by_name["TLS-Version"], by_name["TLS-Cipher"]) == ("TLSv1.3", "X")
    assert (by_name["TLS-Client-Verified"], by_name["TLS-Client-Verify-Error"]) == ("no", "expired")
    assert "TLS-Cert-Issuer" not in by_name
    by_name = dict(headers(session(proven)))
    assert (by_name["TLS-Client-Verified"], by_name["TLS-Cert-Issuer"]) == ("yes", "CN=Root")


def test_each_variable_has_a_name_of_a_field() -> None:
    assert TLS_HEADERS["tls_client_cert_fingerprint_sha256"] == "TLS-Client-Cert-Fingerprint-Sha256"
    assert TLS_HEADERS["tls_sni"] == "TLS-Sni"
