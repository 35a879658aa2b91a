"""Tokens of policy clients."""

import pytest

from triosmtp.policy_service.client_access import token_matches


@pytest.mark.parametrize(("given", "expected"), [(b"", ""), (b"", None), (b"x", ""), (b"", "x"), (b"x", "y")])
def test_a_missing_token_matches_nothing(given: bytes, expected: str | None) -> None:
    assert not token_matches(given, expected)
    assert token_matches(b"x", "x")
