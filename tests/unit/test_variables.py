"""The variables of a context."""

import pytest

from triosmtp.variables import Variables


def test_apply_sets_and_removes_variables() -> None:
    variables = Variables({"a": "1", "b": "2"})
    variables.apply({"a": None, "b": "3", "c": "4", "unknown": None})
    assert variables.snapshot() == {"b": "3", "c": "4"}


@pytest.mark.parametrize("key", ["tls", "tls_client_verified", "ccert_subject"])
@pytest.mark.parametrize("value", ["yes", None])
def test_apply_changes_nothing_if_a_variable_is_reserved(key: str, value: str | None) -> None:
    variables = Variables({"a": "1"})
    variables.record({key: "no"})
    with pytest.raises(KeyError, match="TLS engine"):
        variables.apply({"a": "2", key: value})
    assert variables.snapshot() == {"a": "1", key: "no"}
