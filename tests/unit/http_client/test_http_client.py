"""One HTTP request: what is sent, the bounds of what is read, and what each failure is called."""

import gzip
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio
import trio.testing
from http_server import HTTPServer, Request, answer, http_server, nothing, raw, silence

from triosmtp.http_client.http_client import HTTPAnswer, HTTPClient, HTTPFailureError
from triosmtp.http_client.tls_files import TLSFiles, TLSFilesError
from triosmtp.testing import Authority
from triosmtp.x509.certificate import certificate_facts

BODY = b"0123456789" * 1000


async def chunks() -> AsyncGenerator[bytes, None]:
    for start in range(0, len(BODY), 3000):
        yield BODY[start : start + 3000]


async def post(url: str, files: TLSFiles | None = None, *, limit: int = 4096, truncate: bool = False) -> HTTPAnswer:
    client = HTTPClient(files, connections=2, user_agent="triosmtp")
    try:
        with trio.fail_after(20):
            return await client.post(
                f"{url}/hook", [("X-One", "1"), ("X-One", "2\r\nX-Evil: 3")], len(BODY), chunks, max_answer=limit,
                truncate=truncate,
            )  # fmt: skip
    finally:
        await client.aclose()


async def failure(server: HTTPServer, files: TLSFiles | None = None, limit: int = 4096) -> HTTPFailureError:
    with pytest.raises(HTTPFailureError) as error:
        await post(server.url, files, limit=limit)
    return error.value


async def test_a_request_is_sent_as_it_was_given_and_its_answer_returned() -> None:
    async with http_server(answer("done", 201, ("X-Answer", "yes"))) as server:
        found = await post(server.url)
        assert (found.status, found.body, found.headers["x-answer"]) == (201, b"done", "yes")
        [request] = server.requests
        assert (request.method, request.target, request.body) == ("POST", "/hook", BODY)
        assert [value for name, value in request.headers if name == "x-one"] == ["1", "2??X-Evil: 3"]
        assert request.header("content-length") == str(len(BODY))
        assert request.header("accept-encoding") == "identity"
        assert request.header("user-agent") == "triosmtp"
        assert not request.header("transfer-encoding")


async def test_redirects_proxies_and_netrc_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.touch(0o600)
    netrc.write_text("machine localhost login joe password secret\n")
    async with http_server(nothing) as other, http_server(answer("", 307, ("Location", "/other"))) as server:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, other.url)
        monkeypatch.setenv("NETRC", str(netrc))
        assert (await post(server.url)).status == 307
        assert [each.target for each in server.requests] == ["/hook"]
        assert not server.requests[0].header("authorization")
        assert not other.connections


async def test_an_answer_is_read_up_to_its_bound_and_never_decompressed() -> None:
    endless = raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\n1\r\ny\r\n"
    )
    bomb = answer(gzip.compress(b"x" * 10_000_000), 200, ("Content-Encoding", "gzip"))
    async with http_server(answer(b"x" * 4096)) as server:
        assert len((await post(server.url)).body) == 4096
        server.answer = answer(b"x" * 4097)
        assert str(await failure(server)) == "the answer has more than 4096 octets"
        server.answer = endless
        assert str(await failure(server)) == "the answer has more than 4096 octets"
        server.answer = bomb
        assert str(await failure(server, limit=1 << 20)) == "the answer is compressed, which was not asked for"
        for said, body in ((answer(b"x" * 4097), b"x" * 4096), (endless, b"x" * 4096), (bomb, b"")):
            server.answer = said
            read = await post(server.url, truncate=True)
            assert (read.status, read.body) == (200, body)
        server.answer = raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000)
        assert (await failure(server)).kind == "broken"


@pytest.mark.parametrize(
    "said", [b"220 mx ESMTP\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", b"\0" * 50]
)
async def test_what_is_no_answer_of_http_is_a_broken_connection(said: bytes) -> None:
    async with http_server(raw(said)) as server:
        assert (await failure(server)).kind == "broken"


async def test_an_answer_before_the_end_of_the_request_is_read() -> None:
    async with http_server(nothing) as server:
        server.refuse_early = b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        assert (await post(server.url)).status == 413


async def test_a_2xx_counts_only_if_the_whole_request_was_sent(tmp_path: Path) -> None:
    async def endless() -> AsyncGenerator[bytes, None]:
        for _ in range(80):
            yield bytes(100_000)

    authority = Authority.create()
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    files = TLSFiles(tmp_path / "ca.pem")
    for tls, used in ((None, None), (server_context(tmp_path, authority), files)):
        async with http_server(nothing, tls) as server:
            server.refuse_early = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"
            client = HTTPClient(used, connections=1, user_agent="x")
            with pytest.raises(HTTPFailureError) as error:
                await client.post(server.url, (), 8_000_000, endless, max_answer=10)
            assert error.value.kind == "broken"
            if tls is None:
                assert str(error.value) == "answered 202 before the whole request was sent"
            await client.aclose()


async def test_nobody_who_listens_is_a_failure_to_connect() -> None:
    async with http_server(nothing) as server:
        url = server.url
    with pytest.raises(HTTPFailureError, match=r"^cannot connect: .*localhost:\d+.*: Connection refused$") as error:
        await post(url)
    assert error.value.kind == "connect"
    with pytest.raises(HTTPFailureError, match=r"cannot connect: .*(not known|resolution|No address)"):
        await post("http://host.invalid:80")


async def test_a_cancelled_request_leaves_no_connection_behind() -> None:
    async with http_server(silence) as server:
        client = HTTPClient(None, connections=1, user_agent="x")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    await client.post(server.url, (), len(BODY), chunks, max_answer=1)

                nursery.start_soon(send)
                await server.begun.wait()
                scope.cancel()
        server.answer = answer("x")
        assert (await client.post(server.url, (), len(BODY), chunks, max_answer=1)).body == b"x"  # its place is free
        await client.aclose()


async def test_what_reading_the_body_raises_goes_to_the_caller() -> None:
    async def failing() -> AsyncGenerator[bytes, None]:
        yield b"x"
        raise OSError("disk")

    async with http_server(answer()) as server:
        client = HTTPClient(None, connections=1, user_agent="x")
        with pytest.raises(OSError, match="disk"):
            await client.post(server.url, (), 5, failing, max_answer=1)
        await client.aclose()


# TLS


END = "-----END CERTIFICATE-----\n"


def server_context(
    folder: Path, authority: Authority, clients: Authority | None = None, name: str = "localhost"
) -> ssl.SSLContext:
    authority.issue(name, dns=[name]).write(folder, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    if clients is not None:
        (folder / "clients.pem").write_bytes(clients.certificate_pem)
        context.load_verify_locations(folder / "clients.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_the_certificate_of_the_server_must_verify(tmp_path: Path) -> None:
    authority, other = Authority.create(), Authority.create("other")
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    (tmp_path / "other.pem").write_bytes(other.certificate_pem)
    async with http_server(answer("x"), server_context(tmp_path, authority)) as server:
        assert (await post(server.url, TLSFiles(tmp_path / "ca.pem"))).body == b"x"
        for files in (TLSFiles(tmp_path / "other.pem"), TLSFiles()):
            error = await failure(server, files)
            assert error.kind == "tls"
            assert "unable to get local issuer certificate" in str(error) or "self-signed" in str(error)
        server.port, right = server.port, server.url
        with pytest.raises(HTTPFailureError, match="IP address mismatch"):
            await post(right.replace("localhost", "127.0.0.1"), TLSFiles(tmp_path / "ca.pem"))
        assert len(server.requests) == 1


async def test_a_client_certificate_is_presented_and_a_new_one_used_from_the_next_request_on(tmp_path: Path) -> None:
    authority, clients, strangers = Authority.create(), Authority.create("clients"), Authority.create("strangers")
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    strangers.issue("client", dns=["client.example"]).write(tmp_path, "client")
    files = TLSFiles(tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key")
    async with http_server(answer("x"), server_context(tmp_path, authority, clients)) as server:
        client = HTTPClient(files, connections=1, user_agent="x")
        with pytest.raises(HTTPFailureError):
            await client.post(server.url, (), len(BODY), chunks, max_answer=1)
        clients.issue("client", dns=["client.example"]).write(tmp_path, "client")
        files._checked_at = 0  # as if a second had passed
        assert (await client.post(server.url, (), len(BODY), chunks, max_answer=1)).body == b"x"
        await client.aclose()


async def test_a_certificate_for_another_name_passes_without_names(tmp_path: Path) -> None:
    authority, other = Authority.create(), Authority.create("other")
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    (tmp_path / "other.pem").write_bytes(other.certificate_pem)
    async with http_server(answer("x"), server_context(tmp_path, authority, name="elsewhere")) as server:
        assert "not valid for 'localhost'" in str(await failure(server, TLSFiles(tmp_path / "ca.pem")))
        assert (await post(server.url, TLSFiles(tmp_path / "ca.pem", verify="ca"))).body == b"x"
        assert (await failure(server, TLSFiles(tmp_path / "other.pem", verify="ca"))).kind == "tls"
        assert (await post(server.url, TLSFiles(tmp_path / "other.pem", verify="no"))).body == b"x"
        assert len(server.requests) == 2


async def test_each_certificate_of_the_file_is_trusted(tmp_path: Path) -> None:
    async with http_server(answer("x"), server_context(tmp_path, Authority.create())) as server:
        leaf = (tmp_path / "server.pem").read_text().partition("-----END CERTIFICATE-----")
        (tmp_path / "leaf.pem").write_text(leaf[0] + leaf[1] + "\n")
        assert (await post(server.url, TLSFiles(tmp_path / "leaf.pem"))).body == b"x"


@pytest.mark.parametrize("kind", ["sha256", "spki"])
async def test_a_fingerprint_takes_the_place_of_authority_and_name(tmp_path: Path, kind: str) -> None:
    async with http_server(answer("x"), server_context(tmp_path, Authority.create(), name="elsewhere")) as server:
        der = ssl.PEM_cert_to_DER_cert((tmp_path / "server.pem").read_text().partition("-----END")[0] + END)
        facts = certificate_facts(der)
        digits = facts.fingerprint_sha256 if kind == "sha256" else str(facts.spki_sha256)
        assert (await post(server.url, TLSFiles(fingerprints=((kind, "0" * 64), (kind, digits))))).body == b"x"
        for verify in ("host", "no"):
            error = await failure(server, TLSFiles(verify=verify, fingerprints=((kind, "0" * 64),)))
            assert (error.kind, str(error)) == ("tls", "the certificate of the server has none of TLS_Fingerprints")
        client = HTTPClient(TLSFiles(fingerprints=((kind, "0" * 64),)), connections=1, user_agent="x")
        for ask in (client.head(server.url), client.request("GET", server.url, (), None, max_answer=9)):
            with pytest.raises(HTTPFailureError, match="none of TLS_Fingerprints"):
                await ask
        await client.aclose()
        assert len(server.requests) == 1, "nothing is sent to another server"


async def test_versions_and_ciphers_are_those_of_the_options(tmp_path: Path) -> None:
    authority = Authority.create()
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    context = server_context(tmp_path, authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AES256")
    ca = tmp_path / "ca.pem"
    async with http_server(answer("x"), context) as server:
        assert (await post(server.url, TLSFiles(ca))).body == b"x"
        assert (await post(server.url, TLSFiles(ca, protocols=("TLSv1.2",), ciphers="ECDHE+AES256"))).body == b"x"
        assert (await failure(server, TLSFiles(ca, protocols=("TLSv1.3",)))).kind == "tls"
        assert (await failure(server, TLSFiles(ca, ciphers="ECDHE+AES128"))).kind == "tls"
        assert (await post(server.url, TLSFiles(ca, ciphers="TLS_AES_128_GCM_SHA256"))).body == b"x"
    with pytest.raises(TLSFilesError, match="no cipher of") as error:
        TLSFiles(ca, ciphers="NONSENSE").load()
    assert error.value.option == "TLS_Ciphers"


IMPORTS = """
import sys
import trio
from http_server import answer, http_server
from triosmtp.http_client.http_client import HTTPClient

async def body():
    yield b"x"

async def main():
    client = HTTPClient(None, connections=1, user_agent="x")
    async with http_server(answer("x")) as server:
        before = set(sys.modules)
        await client.post(server.url, (), 1, body, max_answer=10)
        print(sorted(set(sys.modules) - before))
    await client.aclose()

trio.run(main)
"""


def test_the_first_request_imports_nothing() -> None:
    root = Path(__file__).parents[3]
    environment = {"PYTHONPATH": f"{root}:{root}/tests/harness"}
    command = [sys.executable, "-c", IMPORTS]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_requests_are_shown_without_their_bodies() -> None:
    assert "secret" not in repr(HTTPAnswer(200, b"secret", {"x": "secret"}))
    assert Request("POST", "/", [("a", "b")], b"").header("A") == "b"
