"""The address of a Limits_Store: the URL of a Redis."""

from urllib.parse import urlsplit

from triosmtp.config.parser import Value
from triosmtp.config.types.option_type import TEXT, BadValueError, OptionType, Warn, quote, text_of

__all__ = ["LIMITS_STORE"]

_EXPECTED = "redis://host:port/database, rediss://host:port/database or unix:///path"


def _read_limits_store(value: Value, _warn: Warn) -> str:
    text = text_of(value, _EXPECTED)
    try:
        problem = _problem_of(text)
    except ValueError:  # a port or an address in brackets that is none
        problem = f"expected {_EXPECTED}"
    if problem:
        raise BadValueError(value.place, problem if "@" in text else f"{problem}, found {quote(text)}")
    return text


def _problem_of(text: str) -> str:
    """Return why ``text`` is no address; ``""`` if it is one.  It is not repeated if it may hold a password.

    :raises ValueError: if it is no URL.
    """
    parts = urlsplit(text)
    if "@" in parts.netloc:
        return "a password does not belong here: Limits_Store_Password_File names its file"
    if parts.query or parts.fragment or not text.isprintable() or " " in text:
        return f"expected {_EXPECTED}"
    if parts.scheme == "unix":
        return "" if not parts.netloc and parts.path.strip("/") else f"expected {_EXPECTED}"
    database = parts.path.strip("/")
    is_address = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
    return "" if is_address and (not database or database.isdecimal()) else f"expected {_EXPECTED}"


LIMITS_STORE = OptionType("URL of a Redis", _read_limits_store, TEXT.write)
