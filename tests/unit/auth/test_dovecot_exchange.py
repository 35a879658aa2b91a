"""An exchange that is passed on: its steps, its results, and what is abandoned."""

import pytest

from triosmtp.auth.dovecot_codec import Continued, Failed, Succeeded
from triosmtp.auth.dovecot_exchange import relay_exchange
from triosmtp.auth.sasl_exchange import Answer, AuthServiceError, Challenge, Claim, Exchange, Relay


class Abandoned:
    count = 0

    def __call__(self) -> None:
        self.count += 1


def claim(exchange: Exchange, answer: Answer) -> Claim:
    with pytest.raises(StopIteration) as stop:
        exchange.send(answer)
    result = stop.value.value
    assert isinstance(result, Claim)
    return result


def test_octets_go_to_the_service_and_challenges_to_the_client() -> None:
    abandoned = Abandoned()
    exchange = relay_exchange(b"first", abandoned)
    assert next(exchange) == Relay(b"first")
    assert exchange.send(Continued(b"challenge")) == Challenge(b"challenge")
    assert exchange.send(b"second") == Relay(b"second")
    assert exchange.send(Continued(b"")) == Challenge(b"")
    assert exchange.send(b"") == Relay(b"")
    assert claim(exchange, Succeeded("joe")) == Claim(user="joe", proven=True)
    assert abandoned.count == 0


def test_a_failure_is_an_unproven_claim_and_a_temporary_one_an_error() -> None:
    exchange = relay_exchange(None, Abandoned())
    assert next(exchange) == Relay(None)
    assert claim(exchange, Failed("joe", "moved")) == Claim(user="joe", reason="moved")
    exchange = relay_exchange(None, Abandoned())
    next(exchange)
    with pytest.raises(AuthServiceError, match="no database"):
        exchange.send(Failed("joe", "no database", is_temporary=True))


def test_an_exchange_that_is_dropped_before_the_decision_is_abandoned() -> None:
    abandoned = Abandoned()
    exchange = relay_exchange(None, abandoned)
    next(exchange)
    exchange.send(Continued(b""))
    del exchange
    assert abandoned.count == 1


def test_the_octets_of_the_client_are_not_shown() -> None:
    assert "secret" not in repr(Relay(b"secret"))
    assert "secret" not in repr(Continued(b"secret"))
