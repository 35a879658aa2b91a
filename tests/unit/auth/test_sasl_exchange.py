"""Exchanges as generators: their steps, the initial response, and SASLprep."""

from collections.abc import Generator

import pytest

from triosmtp.auth.sasl_exchange import (
    Answer,
    Challenge,
    Claim,
    Lookup,
    MalformedResponse,
    Step,
    prepare_authorization_identity,
    prepare_name,
    with_initial_response,
)


def echo() -> Generator[Step, Answer, Claim]:
    first = yield Challenge(b"first")
    second = yield Challenge(first if isinstance(first, bytes) else b"")
    return Claim(user=repr(second), proven=True)


def test_an_initial_response_answers_the_first_challenge() -> None:
    exchange = with_initial_response(echo(), b"initial")
    assert next(exchange) == Challenge(b"initial")
    with pytest.raises(StopIteration) as stop:
        exchange.send(b"second")
    assert stop.value.value == Claim(user="b'second'", proven=True)


def test_an_exchange_may_end_with_its_initial_response() -> None:
    def single() -> Generator[Step, Answer, Claim]:
        answer = yield Challenge()
        return Claim(user=repr(answer))

    with pytest.raises(StopIteration) as stop:
        next(with_initial_response(single(), b"x"))
    assert stop.value.value.user == "b'x'"


def test_a_malformed_initial_response_raises_in_the_caller() -> None:
    def strict() -> Generator[Step, Answer, Claim]:
        yield Lookup(prepare_name(str((yield Challenge()))))
        raise MalformedResponse("no")

    exchange = with_initial_response(strict(), b"x")
    assert next(exchange) == Lookup("b'x'")
    with pytest.raises(MalformedResponse):
        exchange.send(b"")


def test_names_are_prepared_and_an_empty_authorization_identity_stays_empty() -> None:
    assert prepare_name("andre\u0301") == prepare_authorization_identity("andre\u0301") == "andr\u00e9"
    assert prepare_authorization_identity("") == ""
    for prepare in (prepare_name, prepare_authorization_identity):
        with pytest.raises(MalformedResponse, match="SASLprep forbids"):
            prepare("a\x07")


def test_a_password_is_not_in_the_text_of_a_claim() -> None:
    assert "secret" not in repr(Claim(user="joe", password="secret"))
