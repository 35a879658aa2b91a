"""One connection to a server of NATS: TLS and its enforcement, credentials, requests that fail."""

import asyncio
import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nats.errors
import pytest
import trio
import trustme
from attrs import evolve
from nats_accounts import Nkey, operator_config, write_credentials
from nats_servers import NATSProcess, run_nats

from triosmtp.config import RelayClient
from triosmtp.jetstream.nats_client import (
    ConnectionLostError,
    NATSConnection,
    NATSLogin,
    NoRespondersError,
    PayloadTooLargeError,
    open_connection,
)
from triosmtp.jetstream.nats_credentials import NATSCredentialsError
from triosmtp.jetstream.nats_thread import NATSThread


def connect(port: int, login: NATSLogin | None = None, host: str = "127.0.0.1") -> None:
    """Connect and disconnect."""

    async def run() -> None:
        connection = await open_connection((host, port), login or NATSLogin())
        await connection.close()

    asyncio.run(run())


# TLS


class TLSSite:
    """A server with TLS that wants a client certificate if it is asked to."""

    def __init__(self, folder: Path, config: str) -> None:
        self.ca = trustme.CA()
        self.folder = folder
        certificate = self.ca.issue_cert("localhost")
        self.fingerprint = hashlib.sha256(
            ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
        ).hexdigest()
        certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
        self.ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        self.config = (
            f'tls {{ cert_file: "{folder}/server.pem", key_file: "{folder}/server.pem", '
            f'ca_file: "{folder}/ca.pem" {config} }}\n'
        )

    def login(self, ca: trustme.CA | None = None, **changes: Any) -> NATSLogin:
        """Return a login that trusts ``ca``."""

        def context() -> ssl.SSLContext:
            found = ssl.create_default_context()
            (ca or self.ca).configure_trust(found)
            return found

        return evolve(NATSLogin(tls=True, tls_context=context), **changes)


@pytest.fixture(scope="module")
def tls_site(tmp_path_factory: pytest.TempPathFactory) -> TLSSite:
    return TLSSite(tmp_path_factory.mktemp("tls"), "")


@pytest.fixture(scope="module")
def tls_server(tls_site: TLSSite) -> Iterator[NATSProcess]:
    with run_nats(tls_site.folder / "n", tls_site.config) as server:
        yield server


def test_tls_with_a_verified_name_is_used(tls_server: NATSProcess, tls_site: TLSSite) -> None:
    connect(tls_server.port, tls_site.login(), host="localhost")
    connect(tls_server.port, tls_site.login(tls_name="localhost"))
    connect(
        tls_server.port,
        tls_site.login(tls_name="localhost", tls_fingerprints=(RelayClient("sha256", tls_site.fingerprint),)),
    )


async def test_the_end_of_a_connection_with_tls_is_logged_by_us_only(
    tls_site: TLSSite, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A log in JSON had a line of asyncio each time."""
    lost = threading.Event()

    async def serve(connection: NATSConnection) -> None:
        started.set()
        await connection.closed.wait()
        lost.set()

    started = threading.Event()
    with run_nats(tmp_path / "n", tls_site.config) as server:
        thread = NATSThread((("127.0.0.1", server.port),), tls_site.login(tls_name="localhost"), serve)
        thread.start()
        await trio.to_thread.run_sync(started.wait)
        server.kill()
        await trio.to_thread.run_sync(lost.wait)
        await thread.aclose()
    assert {each.name for each in caplog.records if each.threadName == "triosmtp-nats"} == {"triosmtp.nats"}


def test_a_certificate_that_does_not_verify_is_refused(tls_server: NATSProcess, tls_site: TLSSite) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        connect(tls_server.port, tls_site.login())
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        connect(tls_server.port, tls_site.login(trustme.CA()), host="localhost")


def test_another_certificate_than_those_of_the_fingerprints_is_refused(
    tls_server: NATSProcess, tls_site: TLSSite
) -> None:
    with pytest.raises(nats.errors.Error, match="TLS_Fingerprints"):
        connect(tls_server.port, tls_site.login(tls_fingerprints=(RelayClient("spki", "00" * 32),)), host="localhost")


@pytest.mark.parametrize("tls_required", [False, None])
def test_nothing_is_sent_to_a_server_that_offers_no_tls(tls_site: TLSSite, tls_required: bool | None) -> None:
    """The announcement comes in plaintext, so that anybody on the way could remove the word."""
    received = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": "2.12.0", "max_payload": 1 << 20, "auth_required": True}
        if tls_required is not None:
            info["tls_required"] = tls_required
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        received.append(await reader.read(1))
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            login = tls_site.login(user="u", password_file=password)
            with pytest.raises(nats.errors.Error, match="does not offer TLS"):
                await open_connection(("127.0.0.1", port), login)

    password = tls_site.folder / "password"
    password.touch(0o600)
    password.write_text("secret")
    asyncio.run(run())
    assert received == [b""]


def test_files_of_tls_that_cannot_be_read_are_an_error(tls_server: NATSProcess, tls_site: TLSSite) -> None:
    broken = partial(ssl.create_default_context, cafile=str(tls_site.folder / "missing.pem"))
    with pytest.raises(NATSCredentialsError, match=r"TLS: .*No such file"):
        connect(tls_server.port, tls_site.login(tls_context=broken))


# Credentials


def test_a_creds_file_is_a_login(tmp_path: Path) -> None:
    account, other = Nkey("A"), Nkey("A")
    login = NATSLogin(credentials_file=write_credentials(tmp_path / "u.creds", account))
    unknown = NATSLogin(credentials_file=write_credentials(tmp_path / "o.creds", other))
    with run_nats(tmp_path / "n", operator_config(account)) as server:
        connect(server.port, login)
        for wrong in unknown, NATSLogin():
            with pytest.raises(nats.errors.Error, match="Authorization Violation"):
                connect(server.port, wrong)
        with pytest.raises(NATSCredentialsError, match=r"missing\.creds"):
            connect(server.port, NATSLogin(credentials_file=tmp_path / "missing.creds"))


def test_user_and_password_are_a_login(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.touch(0o600)
    with run_nats(tmp_path / "n", "authorization { user: u, password: right }\n") as server:
        for text, works in (("right\n", True), ("wrong\n", False)):
            password.write_text(text)
            login = NATSLogin(user="u", password_file=password)
            if works:
                connect(server.port, login)
                continue
            with pytest.raises(nats.errors.Error, match="Authorization Violation") as caught:
                connect(server.port, login)
            assert "wrong" not in str(caught.value)


# Requests


def test_a_request_without_anybody_to_answer_fails_at_once(nats_server: NATSProcess) -> None:
    async def run() -> None:
        connection = await open_connection(("127.0.0.1", nats_server.port), NATSLogin())
        try:
            with pytest.raises(NoRespondersError):
                await connection.request("nobody.listens", seconds=30)
        finally:
            await connection.close()

    asyncio.run(run())


def test_a_request_without_an_answer_ends_at_its_time(nats_server: NATSProcess) -> None:
    async def run() -> None:
        connection = await open_connection(("127.0.0.1", nats_server.port), NATSLogin())
        try:
            await connection.client.subscribe("silent")
            with pytest.raises(TimeoutError):
                await connection.request("silent", seconds=0.05)
        finally:
            await connection.close()

    asyncio.run(run())


def test_a_request_fails_when_the_connection_is_lost(tmp_path: Path) -> None:
    async def run(server: NATSProcess) -> None:
        connection = await open_connection(("127.0.0.1", server.port), NATSLogin())
        await connection.client.subscribe("silent")
        asking = asyncio.ensure_future(connection.request("silent", seconds=30))
        await asyncio.sleep(0)
        await connection.client.flush()
        server.kill()
        with pytest.raises(ConnectionLostError):
            await asking
        await connection.closed.wait()
        with pytest.raises(ConnectionLostError):
            await connection.request("silent", seconds=30)

    with run_nats(tmp_path) as server:
        asyncio.run(run(server))


def test_a_server_that_says_nothing_is_given_up() -> None:
    # Connections wait in its backlog.
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        connect(silent.getsockname()[1], NATSLogin(connect_timeout=0.1))


@pytest.mark.parametrize("headers", [None, {"A": "b"}])
def test_a_payload_above_the_maximum_is_not_sent(tmp_path: Path, headers: dict[str, str] | None) -> None:
    """A server would close the connection."""

    async def run(server: NATSProcess) -> None:
        connection = await open_connection(("127.0.0.1", server.port), NATSLogin())
        fits = 4096 - (len("NATS/1.0\r\nA: b\r\n\r\n") if headers else 0)
        with pytest.raises(PayloadTooLargeError, match="4097 octets, and the server accepts 4096"):
            await connection.request("s", b"x" * (fits + 1), seconds=5, headers=headers)
        with pytest.raises(NoRespondersError):
            await connection.request("s", b"x" * fits, seconds=5, headers=headers)
        await connection.close()

    with run_nats(tmp_path, "max_payload: 4096\n") as server:
        asyncio.run(run(server))
