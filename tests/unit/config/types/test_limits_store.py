"""The URLs that Limits_Store takes."""

import pytest

import triosmtp
from triosmtp.errors import ConfigError


def read(store: str) -> str | None:
    config = triosmtp.parse_config(f'Limits_Store = "{store}" ESMTP_Listener {{ Listen ":25" {{ }} }}')
    return config.base.limits_store


@pytest.mark.parametrize(
    "store", ["redis://127.0.0.1", "redis://[::1]:6380/3", "rediss://counts.example.net/0", "unix:///run/redis.sock"]
)
def test_the_stores_that_are_accepted(store: str) -> None:
    assert read(store) == store


@pytest.mark.parametrize(
    "store",
    [
        "", "redis:", "redis://", "http://127.0.0.1", "redis://127.0.0.1:0", "redis://127.0.0.1:99999", "redis://[::1",
        "redis://127.0.0.1/x", "redis://127.0.0.1/1/2", "redis://127.0.0.1/0?x=1", "unix://host/run/x", "unix:///",
        "redis://127.0.0.1/\u00b2",
    ],
)  # fmt: skip
def test_the_stores_that_are_errors(store: str) -> None:
    with pytest.raises(ConfigError, match="expected redis://host:port/database"):
        read(store)


def test_a_password_in_the_url_is_an_error_that_does_not_repeat_it() -> None:
    with pytest.raises(ConfigError) as caught:
        read("redis://:hunter2@127.0.0.1")
    problem = caught.value.problems[0]
    assert "Limits_Store_Password_File" in problem.message
    assert "hunter2" not in str(caught.value)
