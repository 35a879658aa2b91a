"""The address of a target of accepted mail, as ``lmtp://host:24`` or ``maildir:/var/mail/in``, and its grammar.

:data:`SCHEMES` is the table of schemes.  A scheme that is not in it is not known to the configuration.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from triosmtp.config.types.target_url import URL_SCHEMES, Scheme, TargetAddress, redacted

__all__ = ["SCHEMES", "TargetAddress", "expected_targets", "is_delivery_name", "parse_target"]

_SERVED: Final[tuple[str, ...]] = ("lmtp", "smtp", "smtps", "https", "http", "nats")  # those with a factory
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch


def is_delivery_name(text: str) -> bool:
    """Return whether ``text`` can be the name of a Delivery scope."""
    return _NAME(text) is not None


def expected_targets() -> str:
    """Return what may stand in Deliver_To, for messages of errors."""
    *rest, last = (scheme.example for scheme in SCHEMES.values())
    return f"{', '.join(rest)}, {last}, or the name of a Delivery"


def parse_target(text: str, folder: Path | None = None) -> TargetAddress:
    """Read an address.  The path of a Maildir or a Unix socket that does not begin with ``/`` is in ``folder``.

    :raises ValueError: if it is none; the text says what was expected.  It never holds the user information of a URL.
    """
    name, colon, rest = text.partition(":")
    scheme = SCHEMES.get(name.lower()) if colon else None
    if scheme is None:
        raise ValueError(f'expected {expected_targets()}, found "{redacted(text)}"')
    if scheme.secret_options and rest.startswith("//") and "@" in rest:
        raise ValueError(f"no user name or password stands in the address of a target: use {scheme.secret_options}")
    try:
        return scheme.parse(name.lower(), rest, folder)
    except ValueError as error:
        found = f'expected {scheme.example}, found "{redacted(text)}"'
        raise ValueError(found + (f": {error}" if str(error) else "")) from None


# The schemes


def _maildir(scheme: str, rest: str, folder: Path | None) -> TargetAddress:
    if not rest or "\0" in rest:
        raise ValueError
    return TargetAddress(scheme, str(Path(rest) if folder is None else folder / rest))


def _discard(scheme: str, rest: str, _folder: Path | None) -> TargetAddress:
    if rest:
        raise ValueError
    return TargetAddress(scheme)


def _python(scheme: str, rest: str, _folder: Path | None) -> TargetAddress:
    module, _, name = rest.partition(":")
    if not all(map(str.isidentifier, [*module.split("."), *name.split(".")])):
        raise ValueError
    return TargetAddress(scheme, rest)


SCHEMES: Mapping[str, Scheme] = {
    "maildir": Scheme("maildir:/path", _maildir),
    "discard": Scheme("discard:", _discard),
    "python": Scheme("python:package.module:function", _python),
    **{name: URL_SCHEMES[name] for name in _SERVED},
}
"""The schemes that are known.  ``server/target_factories.py`` has a factory for each."""
