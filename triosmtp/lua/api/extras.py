"""The extras that functions of scripts need.  They are imported when a script that names such a function is loaded.

At the first call it would be too late.  The user who serves may not be permitted to read the files of packages, and a
session would wait for the import.
"""

from collections.abc import Callable
from typing import Final

from triosmtp.dns_client import import_dnspython
from triosmtp.errors import needs_extra

__all__ = ["import_extras"]


def _import_http() -> None:
    from triosmtp.http_client.http_client import HTTPClient  # noqa: PLC0415 - only if a script needs it

    HTTPClient(None, connections=1, user_agent="")


_EXTRAS: Final[tuple[tuple[bytes, str, str, Callable[[], None], str], ...]] = (
    (b"dnsLookup", "msys.dnsLookup", "dnspython", import_dnspython, "dns"),
    (b"http.client", "http.client", "httpx", _import_http, "http"),
)
"""The text that names a function, the function, what it needs, its import, and the name of the extra."""


def import_extras(text: bytes) -> list[str]:
    """Import the extras for the functions that a script's text names; return a warning for each that is missing."""
    warnings = []
    for word, function, package, load, extra in _EXTRAS:
        if word in text:
            try:
                load()
            except ImportError:
                warnings.append(f"{function} {needs_extra(package, extra)}")
    return warnings
