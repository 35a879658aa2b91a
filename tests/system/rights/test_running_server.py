"""Rights in `triosmtp serve`, with and without workers: attempts of unknown clients, each beside a normal client."""

import base64
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rights_site import OUT, Site

WORKERS = {"alone": "", "with workers": "Workers = 2"}
KELVIN = "ban\u212a"
MORE = """
TLS_Client_Purpose = client-or-server
TLS_Relay_Clients = ( "dns:mx.partner.example" )
Require_TLS_For = ( "*.b\u00fccher.example" )
AuthExternalParameters = [ map = "{folder}/identities" ]
AuthPlainParameters = [ uri = "file://{folder}/passwords" ]
Auth_Failure_Delay = 0.001
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.clients.issue("bank", usage=["client"]).write(tmp_path, "bank")
    site.clients.issue(KELVIN, usage=["client"]).write(tmp_path, "kelvin")
    site.clients.issue("mx.partner.example", dns=["mx.partner.example"], usage=["server"]).write(tmp_path, "partner")
    site.clients.issue("mx.other.example", dns=["mx.other.example"], usage=["server"]).write(tmp_path, "other")
    (tmp_path / "identities").write_text("cn:bank bank\n")
    (tmp_path / "passwords").write_text("jo:secret\n")
    return site


@contextmanager
def connected(site: Site, port: int, name: str | None = None, *, tls: bool = True) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("localhost", port, timeout=30) as client:
        client.ehlo()
        if tls:
            client.starttls(context=site.client(name))
            client.ehlo()
        yield client


@pytest.mark.parametrize("workers", WORKERS)
def test_no_right_that_was_not_proven(workers: str, site: Site) -> None:
    conf = site.conf(MORE.format(folder=site.folder), WORKERS[workers])
    conf = conf.replace('"STARTTLS" )', '"STARTTLS" "AUTH EXTERNAL PLAIN" )').replace(
        '"example.com" )', '"example.com" "*.b\u00fccher.example" )'
    )
    ours = ["x@a.B\u00fccher.example", "x@A.xn--bcher-kva.example", "x@a.b\u00fccher.example"]
    with site.serving(conf) as port:

        def rcpt(name: str | None, *recipients: str, tls: bool = True) -> list[int]:
            with connected(site, port, name, tls=tls) as client:
                assert client.docmd("MAIL", "FROM:<a@example.org> SMTPUTF8")[0] == 250
                client.command_encoding = "utf-8"
                return [client.docmd("RCPT", f"TO:<{each}>")[0] for each in recipients]

        def auth(name: str | None, line: str) -> int:
            with connected(site, port, name) as client:
                return client.docmd("AUTH", line)[0]

        assert rcpt(None, *ours, "x@example.com", tls=False) == [530] * 3 + [250]
        assert rcpt(None, *ours, "x@example.com", "x@example.com.", "x@example.com.\u00ad") == [250] * 4 + [553] * 2
        routes = ["a%b.example@example.com", "b.example!a@example.com", '"a@b.example"@example.com', OUT]
        assert rcpt(None, *routes, "@b.example:a@example.com") == [550] * 5
        assert rcpt("partner", *routes) == [250] * 4
        assert rcpt("other", *routes) == [550] * 4
        assert [auth(name, "EXTERNAL =") for name in ("bank", "kelvin", "partner")] == [235, 504, 504]
        plain = "PLAIN " + base64.b64encode(b"\0jo\0wrong").decode()
        codes = [auth(None, plain) for _ in range(25)]
        assert codes == [535] * 20 + [454] * 5, "the workers count together"
