"""Exceptions and problems: their texts, and the checks of a refusal."""

import errno
import pickle

import pytest

from triosmtp.errors import (
    ConfigError,
    HandshakeError,
    Position,
    Problem,
    Reject,
    Severity,
    collect,
    connect_failure,
    is_transient,
)


def test_why_no_connection_was_made_is_that_of_each_address_once() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    error = OSError("all attempts to connect to localhost:1 failed")
    error.__cause__ = ExceptionGroup("x", [refused, refused, OSError(errno.ENETUNREACH, "Network is unreachable")])
    assert connect_failure(error) == "Connection refused, Network is unreachable"
    assert connect_failure(refused) == "Connection refused"
    assert connect_failure(OSError("nobody")) == "nobody"


def test_the_caret_of_a_problem_stands_under_its_column_also_after_tabs() -> None:
    problem = Problem(Severity.ERROR, "bad", Position("e.conf", 2, 3), "\ta = b")
    assert str(problem) == "e.conf:2:3: error: bad\n    \ta = b\n    \t ^"
    assert str(Problem(Severity.WARNING, "odd")) == "warning: odd"
    assert str(Problem(Severity.ERROR, "bad", Position("e.conf", 1, 1))) == "e.conf:1:1: error: bad"


def test_a_configuration_error_is_transient_only_if_all_of_its_errors_are() -> None:
    busy = Problem(Severity.ERROR, "address in use", transient=True)
    assert ConfigError([busy, Problem(Severity.WARNING, "odd")]).transient
    assert not ConfigError([busy, Problem(Severity.ERROR, "bad")]).transient


def test_a_configuration_error_survives_pickling() -> None:
    error = ConfigError([Problem(Severity.ERROR, "bad", Position("e.conf", 1, 2), "x")])
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.problems, str(copy)) == (error.problems, str(error))


def test_collect_adds_each_problem_once_and_returns_results() -> None:
    problems = [Problem(Severity.ERROR, "one")]

    def fail() -> int:
        raise ConfigError([Problem(Severity.ERROR, "one"), Problem(Severity.ERROR, "two")])

    assert collect(problems, fail) is None
    assert collect(problems, lambda: 7) == 7
    assert [each.message for each in problems] == ["one", "two"]


def test_collect_lets_other_exceptions_propagate() -> None:
    def fail() -> int:
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        collect([], fail)


@pytest.mark.parametrize(
    ("number", "transient"),
    [(errno.EADDRINUSE, True), (errno.ENOSPC, True), (errno.EACCES, False), (errno.ENOENT, False)],
)
def test_busy_resources_are_transient_and_missing_rights_are_not(number: int, transient: bool) -> None:
    assert is_transient(OSError(number, "x")) is transient


def test_the_detail_of_a_failed_handshake_is_in_its_text() -> None:
    assert str(HandshakeError("timeout")) == "timeout"
    assert str(HandshakeError("alert", "unknown ca")) == "alert: unknown ca"


def test_a_refusal_has_the_enhanced_code_of_its_class() -> None:
    assert (Reject(450).enhanced, Reject(554).enhanced) == ("4.7.1", "5.7.1")
    assert str(Reject(550, "5.1.1", "No such user", reason="typo")) == "550 5.1.1 No such user (typo)"


@pytest.mark.parametrize(
    ("code", "enhanced", "text"),
    [
        (250, None, "a code from 400 to 599"),
        (600, None, "a code from 400 to 599"),
        (True, None, "a code from 400 to 599"),
        (550, "5.7", "looks like 5.7.1"),
        (550, "5.7.x", "looks like 5.7.1"),
        (550, "5.7.1234", "looks like 5.7.1"),
        (550, "4.7.1", "is not of the class of 550"),
    ],
)
def test_a_malformed_refusal_cannot_be_made(code: int, enhanced: str | None, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Reject(code, enhanced)
