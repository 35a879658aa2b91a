"""The versions of triosmtp, Python, Trio and OpenSSL that are in use."""

import platform
from functools import cache
from importlib import metadata

from cryptography.hazmat.backends.openssl import backend

__all__ = ["openssl_version", "versions"]


def openssl_version() -> str:
    """Return the version of the OpenSSL that does the work (not the one of the standard library's ``ssl``).

    pyOpenSSL uses the OpenSSL that cryptography is linked with; asking pyOpenSSL would import all of it.
    """
    return backend.openssl_version_text()


@cache
def versions() -> dict[str, str]:
    """Return names and versions.  They are read once: files of the package may be closed to the user who serves."""
    try:
        version = metadata.version("triosmtp")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    name, _, openssl = openssl_version().partition(" ")
    return {
        "triosmtp": version,
        "Python": platform.python_version(),
        "trio": metadata.version("trio"),
        name: openssl,
    }
