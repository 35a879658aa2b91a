"""Connections to a next hop: addresses in their order, TLS and its certificate, AUTH; a failure is never an answer."""

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio
from scripted_hop import ORIGIN, SILENCE, ScriptedHop, connected, envelope, hop_settings, listening, message, next_hop
from tls_peers import folder, foreign_root, root

from triosmtp.next_hop.hop_settings import HopAddress, HopTimeouts
from triosmtp.tls.chain_findings import tlsa_data
from triosmtp.tls.client_context import ClientTLSSettings
from triosmtp.tls.settings import MaterialError
from triosmtp.x509.authority import Authority
from triosmtp.x509.loaded_certificate import LoadedCertificate

NAME = "hop.example"


def server_context(authority: Authority, name: str = NAME, *, ask: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = authority.issue(name, dns=[name], ip=["127.0.0.1"], usage=["server"]).write(folder(), f"hop-{name}-{ask}")
    context.load_cert_chain(*files)
    if ask:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=root().certificate_pem.decode())
    return context


def authorities(path: Path, authority: Authority | None = None) -> ClientTLSSettings:
    bundle = path / "authorities.pem"
    bundle.write_bytes((authority or root()).certificate_pem)
    return ClientTLSSettings(ca=bundle)


@asynccontextmanager
async def secured(path: Path, hop: ScriptedHop, **options: Any) -> AsyncIterator[Any]:
    """Serve ``hop`` on a Unix socket at which TLS is required."""
    options.setdefault("tls_files", authorities(path))
    address = HopAddress(
        path=str(path / "hop"), tls=options.pop("tls", "required"), tls_name=options.pop("name", NAME),
        implicit_tls=hop.implicit_tls, lmtp=hop.lmtp,
    )  # fmt: skip
    async with connected(path, hop, addresses=(address,), **options) as (delivery, health):
        (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
        yield result, health


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("name", [NAME, "127.0.0.1", "HOP.example."])
async def test_tls_with_a_verified_name(tmp_path: Path, implicit: bool, name: str) -> None:
    hop = ScriptedHop(tls=server_context(root()), implicit_tls=implicit)
    async with secured(tmp_path, hop, name=name) as (result, _):
        assert result.code == 250
    hello = "EHLO mx.example.com"
    assert hop.commands[: 1 if implicit else 3] == ([hello] if implicit else [hello, "STARTTLS", hello])


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "another name": ({"name": "other.example"}, "is not for other.example"),
    "another authority": ({"foreign": True}, "does not verify: unable to get local issuer certificate"),
    "another fingerprint": ({"tls_fingerprints": (("sha256", "00" * 32), ("spki", "00" * 32))}, "TLS_Fingerprints"),
    "an authority is not enough": ({"name": "other.example", "tls_verify": "host"}, "is not for other.example"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_certificate_never_gets_mail_and_never_bounces_it(tmp_path: Path, case: str) -> None:
    options, reason = dict(WRONG[case][0]), WRONG[case][1]
    hop = ScriptedHop(tls=server_context(foreign_root() if options.pop("foreign", False) else root()))
    async with secured(tmp_path, hop, **options) as (result, health):
        assert result.code == 451
        assert reason in result.reason
        assert health.failing_since is not None
    assert hop.commands == ["EHLO mx.example.com", "STARTTLS"], "nothing was sent under TLS"


async def test_certificates_that_are_not_verified_by_name(tmp_path: Path) -> None:
    foreign = server_context(foreign_root())
    async with secured(tmp_path, ScriptedHop(tls=server_context(root())), tls_verify="ca", name="x") as (result, _):
        assert result.code == 250
    async with secured(tmp_path, ScriptedHop(tls=foreign), tls_verify="ca") as (result, _):
        assert result.code == 451
    async with secured(tmp_path, ScriptedHop(tls=foreign), tls_verify="no") as (result, _):
        assert result.code == 250


async def test_the_authorities_of_the_system_are_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "system.pem"
    bundle.write_bytes(root().certificate_pem)
    for authority, code in ((root(), 250), (foreign_root(), 451)):
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        hop = ScriptedHop(tls=server_context(authority))
        async with secured(tmp_path, hop, tls_files=ClientTLSSettings()) as (result, _):
            assert result.code == code


async def test_a_fingerprint_needs_no_authority(tmp_path: Path) -> None:
    credential = foreign_root().issue(NAME, dns=[NAME], usage=["server"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*credential.write(tmp_path, "pinned"))
    der = LoadedCertificate.from_pem(credential.certificate_pem).der
    for pin in (("sha256", sha256(der).hexdigest()), ("spki", tlsa_data(der).rpartition(" ")[2])):
        async with secured(tmp_path, ScriptedHop(tls=context), tls_fingerprints=(pin,), name="x") as (result, _):
            assert result.code == 250


async def test_tls_that_is_not_offered(tmp_path: Path) -> None:
    async with secured(tmp_path, ScriptedHop()) as (result, _):
        assert result.code == 451
        assert "TLS is required" in result.reason
    async with secured(tmp_path, ScriptedHop(), tls="ifavailable") as (result, _):
        assert result.code == 250
    hop = ScriptedHop(tls=server_context(root()))
    async with secured(tmp_path, hop, tls="ifavailable") as (result, _):
        assert result.code == 250
    assert "STARTTLS" in hop.commands


async def test_octets_behind_the_220_to_starttls(tmp_path: Path) -> None:
    hop = ScriptedHop({"STARTTLS": "220 Go\r\n250 injected"}, tls=server_context(root()))
    async with secured(tmp_path, hop) as (result, _):
        assert result.code == 451
        assert "behind the 220" in result.reason


async def test_a_handshake_without_end(tmp_path: Path) -> None:
    hop = ScriptedHop({"STARTTLS": "220 Go"}, extensions=("STARTTLS",))  # and then it expects commands
    async with secured(tmp_path, hop, timeouts=HopTimeouts(connect=0.05)) as (result, _):
        assert result.code == 451


async def test_our_certificate_is_presented_and_its_file_watched(tmp_path: Path) -> None:
    certificate, key = foreign_root().issue("mx.example.com", usage=["client"]).write(tmp_path, "client")
    files = ClientTLSSettings(ca=authorities(tmp_path).ca, certificate=certificate, key=key)
    hop = ScriptedHop(tls=server_context(root(), ask=True))
    async with secured(tmp_path, hop, tls_files=files) as (result, _):
        assert result.code == 451, "the hop does not know its authority"
    address = HopAddress(path=str(tmp_path / "hop"), tls="required", tls_name=NAME)
    async with connected(tmp_path, hop, addresses=(address,), tls_files=files) as (delivery, _):
        assert (await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@b.example")))[0].code == 451
        good = root().issue("mx.example.com", usage=["client"])
        certificate.write_bytes(good.certificate_pem)
        key.write_bytes(good.key_pem)
        delivery._hop.connector._context._looked = 0.0
        assert (await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@b.example")))[0].code == 250


def test_files_are_checked_at_the_start(tmp_path: Path) -> None:
    address = HopAddress(host="hop.example", port=25, tls="required", tls_name=NAME)
    settings = hop_settings("", addresses=(address,), tls_files=ClientTLSSettings(ca=tmp_path / "missing.pem"))
    delivery, _ = next_hop(settings)
    with pytest.raises(MaterialError, match=r'TLS_CA ".*missing.pem": does not exist'):
        delivery.connector.check_tls()


# AUTH


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("s3cret-of-the-hop\n")
    path.chmod(0o600)
    return path


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_auth_plain(tmp_path: Path, password: Path) -> None:
    hop = ScriptedHop({"AUTH": "235 Ok"}, extensions=("AUTH LOGIN PLAIN",), tls=server_context(root()))
    async with secured(tmp_path, hop, auth_user="me", auth_password_file=password) as (result, _):
        assert result.code == 250
    assert hop.commands[3] == "AUTH PLAIN " + encoded("\0me\0s3cret-of-the-hop")


async def test_auth_login(tmp_path: Path, password: Path) -> None:
    answers = {"AUTH": "334 VXNlcm5hbWU6", encoded("me").upper(): "334 UGFzc3dvcmQ6"}
    answers[encoded("s3cret-of-the-hop").upper()] = "235 Ok"
    hop = ScriptedHop(answers, extensions=("AUTH LOGIN",), tls=server_context(root()))
    async with secured(tmp_path, hop, auth_user="me", auth_password_file=password) as (result, _):
        assert result.code == 250
    assert hop.commands[3:6] == ["AUTH LOGIN", encoded("me"), encoded("s3cret-of-the-hop")]


async def test_a_wrong_password_never_bounces_mail_and_is_never_logged(tmp_path: Path, password: Path) -> None:
    hop = ScriptedHop({"AUTH": "535 5.7.8 Wrong"}, extensions=("AUTH PLAIN",), tls=server_context(root()))
    async with secured(tmp_path, hop, auth_user="me", auth_password_file=password) as (result, health):
        assert result.code == 451
        assert "AUTH: 535 5.7.8 Wrong" in result.reason
        assert "s3cret" not in result.reason + health.reason
    hop = ScriptedHop(extensions=("AUTH GSSAPI",), tls=server_context(root()))
    async with secured(tmp_path, hop, auth_user="me", auth_password_file=password) as (result, _):
        assert "offers none of SCRAM-SHA-256, PLAIN, LOGIN; it offers GSSAPI" in result.reason


async def test_auth_never_without_tls(tmp_path: Path, password: Path) -> None:
    hop = ScriptedHop({"AUTH": "235 Ok"}, extensions=("AUTH PLAIN",))
    async with secured(tmp_path, hop, tls="ifavailable", auth_user="me", auth_password_file=password) as (result, _):
        assert result.code == 451
        assert "never used without TLS" in result.reason
    assert hop.commands == ["EHLO mx.example.com"]


async def test_a_challenge_that_is_none(tmp_path: Path, password: Path) -> None:
    for answer in ("235 2.7.0 Welcome", "334 ?", "334 " + "A" * 1000, "334 "):
        hop = ScriptedHop({"AUTH": answer}, extensions=("AUTH SCRAM-SHA-256",), tls=server_context(root()))
        async with secured(tmp_path, hop, auth_user="me", auth_password_file=password) as (result, _):
            assert result.code == 451
            assert "AUTH" in result.reason


# Addresses


async def test_addresses_are_tried_in_order_and_one_that_failed_last(tmp_path: Path) -> None:
    first, second = ScriptedHop(), ScriptedHop()
    paths = tmp_path / "first", tmp_path / "second"
    delivery, health = next_hop(hop_settings("", addresses=tuple(HopAddress(path=str(path)) for path in paths)))
    async with listening(second, paths[1]):
        assert await delivery.probe() == ""
        assert len(second.sessions) == 1
        async with listening(first, paths[0]):
            assert await delivery.probe() == "", "the first one failed a moment ago"
            assert (len(first.sessions), len(second.sessions)) == (0, 2)
            delivery._hop.connector._failed._at.clear()
            assert await delivery.probe() == ""
            assert (len(first.sessions), len(second.sessions)) == (1, 2)
        await delivery.aclose()
    assert health.connections == 0


async def test_nobody_there(tmp_path: Path) -> None:
    delivery, health = next_hop(hop_settings(tmp_path / "nobody"))
    (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
    assert (result.code, result.enhanced) == (451, "4.3.0")
    assert "no connection: No such file or directory" in result.reason
    assert health.failing_since is not None
    assert health.connections == 0
    with trio.socket.socket() as free:
        await free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    delivery, _ = next_hop(hop_settings("", addresses=(HopAddress(host="127.0.0.1", port=port),)))
    assert "Connection refused" in await delivery.probe()


class Resolver(trio.abc.HostnameResolver):
    """Every name has these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, *arguments: Any, **_options: Any) -> Any:
        families = trio.socket.AF_INET, trio.socket.AF_INET6
        stream, port = trio.socket.SOCK_STREAM, arguments[1]
        return [(families[":" in each], stream, 6, "", (each, port)) for each in self.addresses]

    async def getnameinfo(self, *_arguments: Any, **_options: Any) -> Any:
        raise OSError


async def test_each_address_of_a_host_is_tried() -> None:
    """Nobody listens at the first one, IPv6."""
    trio.socket.set_custom_hostname_resolver(Resolver("::1", "127.0.0.1"))
    hop = ScriptedHop()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, hop.serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        delivery, _ = next_hop(hop_settings("", addresses=(HopAddress(host="hop.example", port=port),)))
        assert await delivery.probe() == ""
        await delivery.aclose()
        nursery.cancel_scope.cancel()


async def test_an_address_of_a_host_that_says_nothing_takes_the_time_of_the_others_once() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.1", "127.0.0.2"))
    first, second = ScriptedHop({"banner": SILENCE}), ScriptedHop()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, first.serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        await nursery.start(partial(trio.serve_tcp, second.serve, port, host="127.0.0.2"))
        address, timeouts = HopAddress(host="hop.example", port=port), HopTimeouts(ehlo=0.3)
        delivery, _ = next_hop(hop_settings("", addresses=(address,), timeouts=timeouts))
        assert (await delivery.probe()).endswith("banner: no reply in time")
        assert (len(first.sessions), len(second.sessions)) == (1, 0)
        assert await delivery.probe() == ""
        assert (len(first.sessions), len(second.sessions)) == (1, 1)
        await delivery.aclose()
        nursery.cancel_scope.cancel()


async def test_a_host_with_one_address_fails_with_the_same_words_each_time() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.1"))
    hop = ScriptedHop({"banner": "554 5.3.2 Not here"})
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, hop.serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        for host in ("hop.example", "127.0.0.1"):
            delivery, _ = next_hop(hop_settings("", addresses=(HopAddress(host=host, port=port),)))
            for _ in range(2):
                assert await delivery.probe() == f"smtp://{host}:{port}: banner: 554 5.3.2 Not here"
        nursery.cancel_scope.cancel()
    assert len(hop.sessions) == 4


async def test_an_address_of_a_host_that_does_not_serve_us_is_tried_last() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.1", "127.0.0.2"))
    first, second = ScriptedHop({"banner": "554 5.3.2 Not here"}), ScriptedHop()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, first.serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        delivery, _ = next_hop(hop_settings("", addresses=(HopAddress(host="hop.example", port=port),)))
        assert (
            await delivery.probe() == f"smtp://hop.example:{port}: banner: 554 5.3.2 Not here; "
            f"127.0.0.2: smtp://hop.example:{port}: no connection: Connection refused"
        )
        await nursery.start(partial(trio.serve_tcp, second.serve, port, host="127.0.0.2"))
        counts = []
        for _ in range(3):
            assert await delivery.probe() == ""
            counts.append((len(first.sessions), len(second.sessions)))
        assert counts == [(1, 1), (1, 2), (1, 3)]
        second.answers = {"EHLO": "502 5.5.1 No"}
        first.answers = {}
        assert await delivery.probe() == ""
        assert (len(first.sessions), len(second.sessions)) == (2, 4)
        delivery._hop.connector._failed._at.clear()  # a minute later
        assert await delivery.probe() == ""
        assert (len(first.sessions), len(second.sessions)) == (3, 4)
        await delivery.aclose()
        nursery.cancel_scope.cancel()
