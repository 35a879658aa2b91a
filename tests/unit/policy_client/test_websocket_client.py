"""Mistakes in the use of the client library."""

import json

import pytest
from policy_stage import decider, mail

from triosmtp.policy_client import (
    PolicyRequest,
)


async def test_mistakes_in_a_client_raise_at_once() -> None:
    client = decider()
    with pytest.raises(ValueError, match="is none of connect"):
        client.on("mail")(mail)
    with pytest.raises(TypeError, match="not an async function"):
        client.on("mailfrom")(json.dumps)  # type: ignore[type-var]  # the mistake under test
    with pytest.raises(ValueError, match="matches no notification"):
        client.notification("session.born")

    @client.on("mailfrom")
    async def decide(request: PolicyRequest) -> None:
        pass

    with pytest.raises(ValueError, match="has a handler already"):
        client.on("mailfrom")(decide)
