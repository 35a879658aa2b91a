"""The grammar of targets that are URLs."""

from pathlib import Path

import pytest

from triosmtp.config.types import target_address
from triosmtp.config.types.target_address import parse_target
from triosmtp.config.types.target_url import URL_SCHEMES, TargetAddress


@pytest.fixture(autouse=True)
def every_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the schemes without a factory."""
    monkeypatch.setattr(target_address, "SCHEMES", {**target_address.SCHEMES, **URL_SCHEMES})


@pytest.mark.parametrize(
    ("text", "address", "local"),
    [
        ("lmtp:/run/dovecot/lmtp", TargetAddress("lmtp", "/run/dovecot/lmtp"), True),
        ("lmtp:run/lmtp", TargetAddress("lmtp", "/etc/run/lmtp"), True),
        ("lmtp://mail.example.org", TargetAddress("lmtp", hosts=(("mail.example.org", 24),)), False),
        ("smtp://127.0.0.1:2525", TargetAddress("smtp", hosts=(("127.0.0.1", 2525),)), True),
        ("SMTP://[2001:DB8:0::1]/", TargetAddress("smtp", hosts=(("2001:db8::1", 25),)), False),
        ("smtp://Bücher.example:26", TargetAddress("smtp", hosts=(("xn--bcher-kva.example", 26),)), False),
        ("smtps://localhost", TargetAddress("smtps", hosts=(("localhost", 465),)), True),
        ("https://h/in?x=1", TargetAddress("https", "/in", (("h", 443),), "x=1"), False),
        ("http://[::1]:8080", TargetAddress("http", "/", (("::1", 8080),)), True),
        (
            "nats://n1,n2:4223,[::1]/MAIL/mail.in?replicas=1",
            TargetAddress("nats", "/MAIL/mail.in", (("n1", 4222), ("n2", 4223), ("::1", 4222)), "replicas=1"),
            False,
        ),
    ],
)  # fmt: skip
def test_an_address_is_read_and_written_in_its_full_form(text: str, address: TargetAddress, local: bool) -> None:
    found = parse_target(text, Path("/etc"))
    assert found == address
    assert parse_target(str(found)) == found
    assert found.is_local is local


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lmtp:", "expected lmtp:/path or lmtp://host:port"),
        (f"lmtp:/{'x' * 107}", "at most 107 octets"),
        ("smtp:host", "expected smtp://host:port"),
        ("smtp://", "no host"),
        ("smtp://h:0", "no port from 1 to 65535"),
        ("smtp://h:99999", "no port from 1 to 65535"),
        ("smtp://h:25/x", "nothing follows host and port"),
        ("smtp://h h", "no host"),
        ("smtp://bü_cher", "not an internationalised domain"),
        ("smtp://\uff4cocalhost", "not an internationalised domain"),
        ("smtp://a,b", "no host"),
        ("smtp://[1:2]", "expected smtp://host:port"),
        ("http://mx.example.org/in", "http:// is for loopback only: use https://"),
        ("https://h/#x", "no fragment"),
        ("https://h/\n", "printable ASCII"),
        ("nats://n/MAIL", "the name of a stream"),
        ("nats://n/MAIL/mail.*", "without wildcards"),
        ("nats://n/MAIL/mail..x", "without wildcards"),
        ("nats://n/MAIL/mail?replicas=x", "?replicas=NUMBER and &bucket=NAME"),
        ("nats://n/MAIL/mail?replicas=1&replicas=2", "each once"),
        ("nats://n/MAIL/mail?bucket=a.b", "?replicas=NUMBER and &bucket=NAME"),
        ("nats://n/MAIL/$JS.x", "without wildcards"),
        (f"nats://n/MAIL/{'x' * 201}", "without wildcards"),
        (f"nats://{','.join('n' * 17)}/MAIL/mail", "more than 16 servers"),
    ],
)
def test_other_texts_are_errors_that_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse_target(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("smtp://user:Gehe!m@host", "Auth_Password_File"),
        ("smtps://user:Gehe!m/x@host", "Auth_Password_File"),
        ("lmtp://Gehe!m@[::1]:24", "Auth_Password_File"),
        ("https://user:Gehe!m@host/path", "Secret_File"),
        ("nats://user:Gehe!m@n1,Gehe!m@n2/MAIL/x", "Credentials_File"),
        ("ldap://user:Gehe!m@host", "expected"),
    ],
)
def test_user_information_is_an_error_that_names_the_option_and_not_the_secret(text: str, option: str) -> None:
    with pytest.raises(ValueError, match=option) as caught:
        parse_target(text)
    assert "Gehe!m" not in str(caught.value)
