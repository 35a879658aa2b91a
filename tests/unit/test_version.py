"""The versions that `triosmtp version` reports."""

import platform
from importlib import metadata

import pytest
import trio
from OpenSSL import SSL

from triosmtp import version


def test_the_openssl_is_the_one_that_serves() -> None:
    linked = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()
    assert version.openssl_version() == linked
    versions = version.versions()
    assert (versions["Python"], versions["trio"]) == (platform.python_version(), trio.__version__)
    assert versions["OpenSSL"] == linked.removeprefix("OpenSSL ")


def test_a_copy_that_is_not_installed_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    found = metadata.version

    def missing(name: str) -> str:
        if name == "triosmtp":
            raise metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert version.versions.__wrapped__()["triosmtp"] == "(not installed)"
