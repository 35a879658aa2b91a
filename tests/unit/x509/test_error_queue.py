"""The error queue of OpenSSL, which belongs to the thread."""

import threading

import pytest
from OpenSSL import SSL, crypto

from triosmtp.x509 import error_queue
from triosmtp.x509.error_queue import clear_errors, error_words

OPENSSL = vars(SSL)["_lib"]


def leave_an_error() -> None:
    OPENSSL.ERR_put_error(20, 0, 1049, b"", 0)


@pytest.mark.parametrize("clear", [clear_errors, error_queue._clear_errors], ids=["binding", "method"])
def test_it_is_emptied(clear: object) -> None:
    assert callable(clear)
    for number in (0, 1, 20):
        for _ in range(number):
            leave_an_error()
        assert bool(OPENSSL.ERR_peek_error()) is (number > 0)
        clear()
        assert OPENSSL.ERR_peek_error() == 0


def test_the_queue_of_another_thread_is_another() -> None:
    seen: list[bool] = []

    def other() -> None:
        seen.append(bool(OPENSSL.ERR_peek_error()))
        leave_an_error()
        error_queue._clear_errors()
        seen.append(bool(OPENSSL.ERR_peek_error()))

    leave_an_error()
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [False, False]
    assert OPENSSL.ERR_peek_error() != 0
    clear_errors()


def test_the_words_of_an_error() -> None:
    with pytest.raises(crypto.Error) as caught:
        crypto.load_certificate(crypto.FILETYPE_PEM, b"junk")
    assert "no start line" in error_words(caught.value).lower()
    assert error_words(SSL.Error([("lib", "", "one"), ("lib", "", ""), ("lib", "", "two")])) == "one; two"
    assert error_words(SSL.Error([])) == "no reason given"
    assert error_words(SSL.SysCallError(-1, "Unexpected EOF")) == "(-1, 'Unexpected EOF')"
    assert error_words(SSL.WantWriteError()) == "WantWriteError"
