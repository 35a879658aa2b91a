"""The variables of a context."""

import copy
import pickle
from collections.abc import Callable

import pytest

from triosmtp.variables import POSTFIX_ALIASES, Variables, is_reserved


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


@pytest.mark.parametrize("key", ["tls", "tls_client_verified", "tls_anything", *sorted(POSTFIX_ALIASES)])
def test_only_the_tls_engine_writes_reserved_keys(key: str) -> None:
    variables = Variables()
    assert is_reserved(key)
    with pytest.raises(KeyError):
        variables[key] = "yes"
    with pytest.raises(KeyError):
        Variables({key: "yes"})
    variables.record({key: "yes"})
    assert variables[key] == "yes"
    with pytest.raises(KeyError):
        del variables[key]
    variables.clear()
    assert dict(variables) == {key: "yes"}


def test_keys_and_values_are_strings() -> None:
    variables = Variables({"a": "b"})
    for key, value in (("n", 1), (1, "n"), ("n", None)):
        with pytest.raises(TypeError, match="map str to str"):
            variables[key] = value  # type: ignore[index,assignment]
    assert dict(variables) == {"a": "b"}


def test_a_snapshot_is_not_changed_later() -> None:
    variables = Variables({"a": "b"})
    snapshot = variables.snapshot()
    variables["a"] = "c"
    del variables["a"]
    assert snapshot == {"a": "b"}
    assert "a" not in variables


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, lambda context: pickle.loads(pickle.dumps(context))])
def test_a_copy_is_independent(make_copy: Callable[[Variables], Variables]) -> None:
    context = Variables({"a": "1"})
    context.record({"tls": "on"})
    copied = make_copy(context)
    context["a"] = "2"
    context.record({"tls_protocol": "TLSv1.3"})
    copied.record({"b": "3"})
    assert copied.snapshot() == dict(copied) == {"a": "1", "tls": "on", "b": "3"}
    assert context.snapshot() == dict(context) == {"a": "2", "tls": "on", "tls_protocol": "TLSv1.3"}
