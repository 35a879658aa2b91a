"""What runs here: the versions of triosmtp and of what it stands on."""

import platform
from importlib import metadata

from triosmtp.tls import openssl_version

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """Give names and versions."""
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
