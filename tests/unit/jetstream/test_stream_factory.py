"""The options of a Delivery, as settings of the connection to NATS.  Errors: tests/system/jetstream/."""

import ssl
from pathlib import Path

import pytest
import trustme

from triosmtp.config import parse_config
from triosmtp.config.types.target_url import parse_events_address
from triosmtp.jetstream.nats_client import NATSLogin
from triosmtp.jetstream.stream_factory import events_login, make_login


def login_of(options: str, host: str = "nats.example.org") -> NATSLogin:
    delivery = f'Delivery "d" {{ Deliver_To = "nats://{host}/MAIL/mail.in" {options} }}'
    config = parse_config(f'{delivery} Deliver_To = "d" ESMTP_Listener {{ Listen ":25" {{ }} }}')
    return make_login(config.target("d"))


def test_tls_and_a_verified_name_are_required_except_on_this_host() -> None:
    login = login_of("")
    context = login.tls_context()
    assert (login.tls, context.check_hostname, context.verify_mode) == (True, True, ssl.CERT_REQUIRED)
    assert login_of("", "127.0.0.1").tls is False
    assert login_of("", "localhost,[::1]").tls is False
    assert login_of("", "127.0.0.1,nats.example.org").tls is True
    assert login_of('TLS = "required"', "127.0.0.1").tls is True
    assert login_of('TLS = "no"').tls is False


@pytest.mark.parametrize(
    ("options", "check_hostname", "verify_mode"),
    [
        ('TLS_Verify = "ca"', False, ssl.CERT_REQUIRED),
        ('TLS_Verify = "no"', False, ssl.CERT_NONE),
        (f'TLS_Fingerprints = ( "sha256:{"ab" * 32}" )', False, ssl.CERT_NONE),
    ],
)
def test_options_loosen_the_verification(options: str, check_hostname: bool, verify_mode: ssl.VerifyMode) -> None:
    context = login_of(options).tls_context()
    assert (context.check_hostname, context.verify_mode) == (check_hostname, verify_mode)


def test_the_files_are_read_for_each_context(tmp_path: Path) -> None:
    ca = trustme.CA()
    certificate = ca.issue_cert("client.example.org")
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    login = login_of(f'TLS_CA = "{tmp_path}/ca.pem" TLS_Certificate = "{tmp_path}/client.pem" TLS_Name = "n1"')
    assert len(login.tls_context().get_ca_certs()) == 1
    assert login.tls_context().verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    assert login.tls_name == "n1"
    (tmp_path / "ca.pem").write_bytes(ca.cert_pem.bytes() + trustme.CA().cert_pem.bytes())
    assert len(login.tls_context().get_ca_certs()) == 2


def test_versions_and_ciphers_are_set() -> None:
    context = login_of('TLS_Protocols = "+TLSv1.3" TLS_Ciphers = "ECDHE+AESGCM"').tls_context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert any(each["name"].startswith("ECDHE") for each in context.get_ciphers())


def test_a_list_of_suites_of_tls_1_3_alone_leaves_the_others_as_they_are() -> None:
    context = login_of('TLS_Ciphers = "TLS_AES_128_GCM_SHA256"').tls_context()
    assert context.get_ciphers() == ssl.create_default_context().get_ciphers()


def test_events_need_tls_except_on_this_host() -> None:
    assert events_login(parse_events_address("nats://nats.example.org/e"), None).tls is True
    assert events_login(parse_events_address("nats://127.0.0.1/e"), None).tls is False
