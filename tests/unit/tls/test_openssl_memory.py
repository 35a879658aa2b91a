"""The calls of OpenSSL, by its bindings and by pyOpenSSL's methods: the same results, the same errors."""

import array
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trio
from OpenSSL import SSL
from tls_peers import VERSIONS, adopted, plain_client, server_context, shake, taken

from triosmtp.tls import openssl_memory
from triosmtp.tls.context import NoApplicationProtocolError
from triosmtp.tls.engine import Engine
from triosmtp.tls.openssl_memory import RELEASED
from triosmtp.x509.error_queue import clear_errors

CALLS = ["holds_input", "read_plaintext", "take_ciphertext", "write_ciphertext", "encrypt_data", "advance_handshake"]

OPENSSL: Any = vars(SSL)["_lib"]


class Calls:
    """The calls of one kind."""

    def __init__(self, ending: str) -> None:
        self.holds_input: Callable[[SSL.Connection], bool]
        self.read_plaintext: Callable[[SSL.Connection, int], bytes]
        self.take_ciphertext: Callable[[SSL.Connection], bytes]
        self.write_ciphertext: Callable[[SSL.Connection, Any], None]
        self.encrypt_data: Callable[[SSL.Connection, Any], bytes]
        self.advance_handshake: Callable[[SSL.Connection], bool]
        for name in CALLS:
            setattr(self, name, getattr(openssl_memory, f"_{name}{ending}"))


@pytest.fixture(params=["_directly", ""], ids=["bindings", "methods"])
def calls(request: pytest.FixtureRequest) -> Calls:
    return Calls(request.param)


def connected(version: str = "TLSv1.3") -> tuple[SSL.Connection, SSL.Connection]:
    """Return a client and a server whose handshake is done, with nothing left to send."""
    engine, client = Engine(server_context().context), plain_client(version)
    shake(engine, client)
    server = engine.openssl_connection
    tickets = taken(server)
    if tickets:
        client.bio_write(tickets)
    with pytest.raises(SSL.WantReadError):
        client.recv(100)  # the tickets of TLS 1.3
    return client, server


def leave_an_error() -> None:
    """Leave an entry in the error queue, as another connection may: an alert of its peer."""
    OPENSSL.ERR_put_error(20, 0, 1049, b"", 0)  # ERR_LIB_SSL, SSL_R_TLSV1_ALERT_ACCESS_DENIED


def test_the_error_that_is_left_is_an_alert() -> None:
    client, server = connected()
    client.send(b"NOOP\r\n")
    record = bytearray(taken(client))
    record[-1] ^= 1
    server.bio_write(record)
    leave_an_error()
    with pytest.raises(SSL.Error, match="access denied"):
        server.recv(100)
    assert OPENSSL.ERR_peek_error() == 0


def test_the_bindings_are_used_only_if_all_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert openssl_memory._has_bindings()
    for name in ("_FUNCTIONS", "_ATTRIBUTES"):
        with monkeypatch.context() as patch:
            patch.setattr(openssl_memory, name, (*getattr(openssl_memory, name), "SSL_that_is_not_there"))
            assert not openssl_memory._has_bindings()
    with monkeypatch.context() as patch:
        patch.setattr(openssl_memory, "_ffi", None)
        assert not openssl_memory._has_bindings()


@pytest.mark.parametrize("version", VERSIONS)
def test_data_both_ways(calls: Calls, version: str) -> None:
    client, server = connected(version)
    client.send(b"EHLO x\r\n")
    calls.write_ciphertext(server, taken(client))
    assert calls.holds_input(server)
    assert calls.read_plaintext(server, 5) + calls.read_plaintext(server, 100) == b"EHLO x\r\n"
    with pytest.raises(SSL.WantReadError):
        calls.read_plaintext(server, 100)
    assert calls.take_ciphertext(server) == b""
    client.bio_write(calls.encrypt_data(server, bytes(100_000)))
    assert sum(len(client.recv(20_000)) for _ in range(7)) == 100_000


@pytest.mark.parametrize("size", [1, 50, 64, 65, 16384, 16385, 100_000])
def test_all_that_is_to_be_sent_is_taken(calls: Calls, size: int) -> None:
    """The session tickets of TLS 1.3 go before the first data, and large data are several records."""
    engine, client = Engine(server_context().context), plain_client()
    shake(engine, client)
    server = engine.openssl_connection
    for _ in range(2):
        client.bio_write(calls.encrypt_data(server, bytes(size)))
        assert calls.take_ciphertext(server) == b""
        received = 0
        while received < size:
            received += len(client.recv(20_000))
    assert received == size


def accepting(name: str) -> tuple[SSL.Connection, SSL.Connection]:
    """Return a server and a client that offers ``name`` by ALPN; the server has its first flight."""
    server, client = Engine(server_context().context).openssl_connection, plain_client()
    client.set_alpn_protos([name.encode()])
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    server.bio_write(taken(client))
    return server, client


def test_a_handshake_is_advanced_as_far_as_it_goes(calls: Calls) -> None:
    server, client = accepting("smtp")
    leave_an_error()
    assert not calls.advance_handshake(server)
    assert not calls.advance_handshake(server)
    client.bio_write(calls.take_ciphertext(server))
    client.do_handshake()
    server.bio_write(taken(client))
    leave_an_error()
    assert calls.advance_handshake(server)
    assert calls.advance_handshake(server)
    clear_errors()


def test_a_handshake_that_a_callback_ends_raises_its_exception(calls: Calls) -> None:
    server, _ = accepting("http/1.1")
    with pytest.raises(NoApplicationProtocolError):
        calls.advance_handshake(server)
    other, _ = accepting("smtp")
    assert not calls.advance_handshake(other)


def test_a_handshake_that_fails_raises_its_own_error(calls: Calls) -> None:
    server = Engine(server_context().context).openssl_connection
    server.bio_write(b"HELO x\r\nNOOP\r\n")
    leave_an_error()
    with pytest.raises(SSL.Error, match=r"version number|http|record") as caught:
        calls.advance_handshake(server)
    assert "access denied" not in str(caught.value)


def test_whether_input_is_held() -> None:
    _, server = connected()
    assert not openssl_memory.holds_input(server)
    assert Calls("").holds_input(server)  # it cannot tell


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_octets(calls: Calls, kind: Callable[[bytes], Any]) -> None:
    client, server = connected()
    client.bio_write(calls.encrypt_data(server, kind(b"250 OK\r\n")))
    assert client.recv(100) == b"250 OK\r\n"
    client.send(b"QUIT\r\n")
    calls.write_ciphertext(server, kind(taken(client)))
    assert calls.read_plaintext(server, 100) == b"QUIT\r\n"


def test_a_view_whose_items_are_larger_than_an_octet_is_written_whole(calls: Calls) -> None:
    client, server = connected()
    view = memoryview(array.array("I", range(100)))
    assert view.itemsize > 1
    client.bio_write(calls.encrypt_data(server, view))
    assert client.recv(1000) == view.tobytes()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("error", ["none", "want read", "close_notify", "broken record"])
def test_what_another_connection_left_in_the_error_queue_is_not_read(calls: Calls, version: str, error: str) -> None:
    """OpenSSL before 4.0 would even take it for the outcome of this call."""
    client, server = connected(version)
    if error == "close_notify":
        client.shutdown()
    else:
        client.send(b"NOOP\r\n")
    record = bytearray(taken(client))
    if error == "want read":
        del record[-1]
    elif error == "broken record":
        record[-1] ^= 1
    calls.write_ciphertext(server, record)
    leave_an_error()
    if error == "none":
        assert calls.read_plaintext(server, 100) == b"NOOP\r\n"
        return
    expected = {"want read": SSL.WantReadError, "close_notify": SSL.ZeroReturnError}.get(error, SSL.Error)
    with pytest.raises(expected) as caught:
        calls.read_plaintext(server, 100)
    assert type(caught.value) is expected
    assert "access denied" not in str(caught.value)


def test_an_error_of_a_write_is_its_own(calls: Calls) -> None:
    _, server = connected()
    server.shutdown()
    leave_an_error()
    with pytest.raises(SSL.Error, match="protocol is shutdown") as caught:
        calls.encrypt_data(server, b"250 OK\r\n")
    assert "access denied" not in str(caught.value)


def test_an_error_of_the_end_is_its_own() -> None:
    engine, client = Engine(server_context().context), plain_client()
    shake(engine, client)
    adopted(engine)
    for _ in range(2):  # at the second one OpenSSL looks for the client's close_notify
        leave_an_error()
        with pytest.raises(ssl.SSLWantReadError):
            engine.unwrap()
        assert engine.failure is None
    clear_errors()


@pytest.mark.parametrize("name", CALLS)
def test_a_connection_that_was_freed_is_closed(calls: Calls, name: str) -> None:
    arguments: dict[str, tuple[object, ...]] = {
        "read_plaintext": (100,),
        "write_ciphertext": (b"x",),
        "encrypt_data": (b"x",),
    }
    if name == "holds_input" and calls.holds_input is Calls("").holds_input:
        pytest.skip("it asks nothing of the connection")
    with pytest.raises(trio.ClosedResourceError):
        getattr(calls, name)(RELEASED, *arguments.get(name, ()))
