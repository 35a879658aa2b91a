"""The number of connections that the limit of file descriptors allows."""

import os
import resource
import sys
from collections.abc import Iterator

import pytest

from triosmtp.limits.fd_limit import max_connections


@pytest.fixture(autouse=True)
def _restored_limit() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def set_limit(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def test_open_files_and_an_eighth_of_all_descriptors_are_kept_free() -> None:
    set_limit(800)
    before = max_connections()
    assert before < 700
    descriptors = [os.open("/dev/null", os.O_RDONLY) for _ in range(10)]
    try:
        assert max_connections() == before - 10
    finally:
        for each in descriptors:
            os.close(each)
    set_limit(880)
    assert max_connections() == before + 70


def test_one_connection_is_always_allowed_and_without_a_limit_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    set_limit(len(os.listdir("/proc/self/fd")) + 4)  # noqa: PTH208
    assert max_connections() == 1
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert max_connections() == sys.maxsize
