"""The values of the options of AUTH: dictionaries of parameters, and the mechanisms that SMTP_Extensions lists."""

from pathlib import Path
from typing import Final

from attrs import frozen

from triosmtp.config.parser import Dictionary, Value
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.value import BOOLEAN, BadValueError, Type, Warn, quote, text_of

__all__ = [
    "AUTH_PARAMETERS", "EXTERNAL_PARAMETERS", "MECHANISMS", "AuthParameters", "ExternalParameters", "mechanisms_of",
]  # fmt: skip

MECHANISMS: Final = (
    "EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN",
)  # fmt: skip
"""The SASL mechanisms that are built."""


@frozen(slots=True, kw_only=True)
class AuthParameters:
    """What a mechanism checks against, as Auth…Parameters says it."""

    path: Path
    digests: bool = False
    """Whether the file has lines of DIGEST-MD5: ``digest:///…``."""
    realm: str = ""
    stored_cleartext: bool | None = None
    log_authentication: bool = True


@frozen(slots=True, kw_only=True)
class ExternalParameters:
    """Who a client certificate stands for: ``dns``, ``email``, ``subject_cn``, or the path of a file."""

    map: str
    log_authentication: bool = True


_KEYS: Final = ("uri", "realm", "stored_cleartext", "log_authentication")
_EXTERNAL_KEYS: Final = ("map", "log_authentication")


def _entries(value: Value, known: tuple[str, ...]) -> dict[str, Value]:
    if not isinstance(value, Dictionary):
        raise BadValueError(value.place, f"expected a dictionary: [ {known[0]} = … ]")
    found: dict[str, Value] = {}
    for key, each in value.entries:
        name = key.text.lower()
        if name not in known:
            close = suggest(nearest(name, known))
            raise BadValueError(key.place, f"expected one of {', '.join(known)}, found {quote(key.text)}{close}")
        found[name] = each
    if known[0] not in found:
        raise BadValueError(value.place, f"expected {known[0]} in it")
    return found


def _flag(entries: dict[str, Value], name: str, default: bool | None, warn: Warn) -> bool | None:
    return BOOLEAN.read(entries[name], warn) if name in entries else default


def _read_parameters(value: Value, warn: Warn) -> AuthParameters:
    entries = _entries(value, _KEYS)
    uri = text_of(entries["uri"], "a URI")
    scheme, _, path = uri.partition("://")
    if scheme not in {"file", "digest"} or not path.startswith("/"):
        raise BadValueError(entries["uri"].place, f"expected file:///path or digest:///path, found {quote(uri)}")
    return AuthParameters(
        path=Path(path),
        digests=scheme == "digest",
        realm=text_of(entries["realm"], "a realm") if "realm" in entries else "",
        stored_cleartext=_flag(entries, "stored_cleartext", None, warn),
        log_authentication=bool(_flag(entries, "log_authentication", True, warn)),
    )


def _write_parameters(value: object) -> str:
    assert isinstance(value, AuthParameters)
    entries = [f'uri = "{"digest" if value.digests else "file"}://{value.path}"']
    if value.realm:
        entries.append(f"realm = {quote(value.realm)}")
    if value.stored_cleartext is not None:
        entries.append(f"stored_cleartext = {str(value.stored_cleartext).lower()}")
    if not value.log_authentication:
        entries.append("log_authentication = false")
    return f"[ {'  '.join(entries)} ]"


def _read_external(value: Value, warn: Warn) -> ExternalParameters:
    entries = _entries(value, _EXTERNAL_KEYS)
    expected = "dns, email, subject_cn, or the path of a file"
    text = text_of(entries["map"], expected)
    if text not in {"dns", "email", "subject_cn"}:
        folder = value.place.source.folder
        if "/" not in text:
            raise BadValueError(entries["map"].place, f"expected {expected}, found {quote(text)}")
        text = str(Path(text) if folder is None else folder / text)
    return ExternalParameters(map=text, log_authentication=bool(_flag(entries, "log_authentication", True, warn)))


def _write_external(value: object) -> str:
    assert isinstance(value, ExternalParameters)
    return f"[ map = {quote(value.map)}{'' if value.log_authentication else '  log_authentication = false'} ]"


AUTH_PARAMETERS: Type[AuthParameters | None] = Type("dictionary", _read_parameters, _write_parameters)
EXTERNAL_PARAMETERS: Type[ExternalParameters | None] = Type("dictionary", _read_external, _write_external)


def mechanisms_of(extensions: tuple[str, ...]) -> tuple[str, ...]:
    """Give the mechanisms that SMTP_Extensions lists, the strongest first."""
    listed = {word for each in extensions if each.startswith("AUTH ") for word in each.split()[1:]}
    return tuple(name for name in MECHANISMS if name in listed)
