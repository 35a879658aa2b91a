"""The values of the options of AUTH: dictionaries of parameters, and the mechanisms that SMTP_Extensions lists."""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from attrs import frozen

from triosmtp.config.parser import Dictionary, Scalar, Value
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.types.filter_address import MAX_SOCKET_PATH
from triosmtp.config.types.option_type import BOOLEAN, BadValueError, OptionType, Warn, quote, text_of
from triosmtp.errors import Severity

__all__ = [
    "AUTH_PARAMETERS", "AUTH_SERVICE", "EXTERNAL_PARAMETERS", "MECHANISMS", "MOMENTUM_SCHEMES", "SCRIPT_SCHEME",
    "SERVICE_MECHANISMS", "AuthParameters", "ExternalParameters", "mechanisms_of", "module_problem",
]  # fmt: skip

MECHANISMS: Final = (
    "EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN",
)  # fmt: skip
"""The SASL mechanisms that are built."""
SERVICE_MECHANISMS: Final = ("GSSAPI", "GSS-SPNEGO", "SCRAM-SHA-1", "OAUTHBEARER", "XOAUTH2")
"""The SASL mechanisms that only an Auth_Service can have."""
_ORDER: Final = (
    "EXTERNAL", "GSSAPI", "GSS-SPNEGO", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "DIGEST-MD5", "CRAM-MD5",
    "OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN",
)  # fmt: skip


@frozen(slots=True, kw_only=True)
class AuthParameters:
    """The store of a mechanism, from Auth…Parameters."""

    path: Path
    digests: bool = False
    """Whether the file has lines of DIGEST-MD5: ``digest:///…``."""
    realm: str = ""
    stored_cleartext: bool | None = None
    log_authentication: bool = True
    module: str = ""
    """The scheme of a URI that a module of Momentum's answers, such as ``radius``, or a script."""
    is_of_momentum: bool = False
    """Whether a stanza of Momentum's says who answers that scheme."""
    file_name: str = ""
    """The text of such a URI behind ``scheme://``."""
    arguments: tuple[tuple[str, str], ...] = ()
    """The keys and values beside such a URI."""


@frozen(slots=True, kw_only=True)
class ExternalParameters:
    """Who a client certificate stands for: ``dns``, ``email``, ``subject_cn``, or the path of a file."""

    map: str
    log_authentication: bool = True


_SCHEMES: Final = ("file", "digest")
_URI: Final = "file:///path or digest:///path"
_MODULE_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*)://")
MOMENTUM_SCHEMES: Final = ("ac_auth", "ecauth", "mysqlauth", "radius", "smtp_auth_proxy")
"""The schemes that modules of Momentum's answer; auth_ds answers those that its stanza names, too."""
SCRIPT_SCHEME: Final = "ac_auth"
"""The scheme that the callout ac_auth_perform_auth of a script answers."""
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
    module, file_name = _module(value)
    if module:  # the rest is for the module
        return AuthParameters(path=Path(), module=module, file_name=file_name, arguments=_arguments(value))
    entries = _entries(value, _KEYS)
    uri = text_of(entries["uri"], "a URI")
    scheme, _, path = uri.partition("://")
    if scheme not in _SCHEMES or not path.startswith("/"):
        raise BadValueError(entries["uri"].place, f"expected {_URI}, found {quote(uri)}")
    return AuthParameters(
        path=Path(path),
        digests=scheme == "digest",
        realm=text_of(entries["realm"], "a realm") if "realm" in entries else "",
        stored_cleartext=_flag(entries, "stored_cleartext", None, warn),
        log_authentication=bool(_flag(entries, "log_authentication", True, warn)),
    )


def _module(value: Value) -> tuple[str, str]:
    """Return the scheme of a URI that triosmtp does not implement, and what follows ``://``."""
    for key, each in value.entries if isinstance(value, Dictionary) else ():
        match = _MODULE_URI.match(each.text) if key.text.lower() == "uri" and isinstance(each, Scalar) else None
        if match is not None and match[1] not in _SCHEMES:
            return match[1], match.string[match.end() :]
    return "", ""


def _arguments(value: Value) -> tuple[tuple[str, str], ...]:
    entries = value.entries if isinstance(value, Dictionary) else ()
    return tuple((key.text, each.text) for key, each in entries if isinstance(each, Scalar))


def module_problem(scheme: str, registered: Collection[str]) -> tuple[Severity, str]:
    """Return severity and message for a URI of ``scheme``, which triosmtp does not implement.

    ``registered`` are the names that stanzas of auth_ds hold: each may be a scheme.  Any other scheme is an error: a
    typo must not switch AUTH off.
    """
    if scheme.lower() in {*MOMENTUM_SCHEMES, *registered}:
        return Severity.WARNING, f"{scheme}:// is answered by a module of Momentum's: the mechanism is not offered"
    known = (*_SCHEMES, *MOMENTUM_SCHEMES, *registered)
    close = suggest(nearest(f"{scheme}://", [f"{each}://" for each in known]))
    return Severity.ERROR, f"expected {_URI}, found {quote(f'{scheme}://')}{close}"


def _write_parameters(value: object) -> str:
    assert isinstance(value, AuthParameters)
    if value.module:
        others = [f"{key} = {quote(text)}" for key, text in value.arguments if key.lower() != "uri"]
        uri = quote(f"{value.module}://{value.file_name}")
        return f"[ {'  '.join([f'uri = {uri}', *others])} ]"
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


def _read_service(value: Value, _warn: Warn) -> Path:
    expected = "dovecot:/path of a Unix socket"
    text = text_of(value, expected)
    scheme, colon, path = text.partition(":")
    if scheme != "dovecot" or not colon or not path:
        raise BadValueError(value.place, f"expected {expected}, found {quote(text)}")
    folder = value.place.source.folder
    place = Path(path) if folder is None else folder / path
    if "\0" in path or len(os.fsencode(place)) > MAX_SOCKET_PATH:
        raise BadValueError(value.place, f"expected a path of at most {MAX_SOCKET_PATH} octets, found {quote(text)}")
    return place


AUTH_SERVICE: OptionType[Path | None] = OptionType(
    "dovecot:/path", _read_service, lambda value: quote(f"dovecot:{value}")
)
AUTH_PARAMETERS: OptionType[AuthParameters | None] = OptionType("dictionary", _read_parameters, _write_parameters)
EXTERNAL_PARAMETERS: OptionType[ExternalParameters | None] = OptionType("dictionary", _read_external, _write_external)


def mechanisms_of(extensions: tuple[str, ...]) -> tuple[str, ...]:
    """Return the mechanisms that SMTP_Extensions lists, the strongest first."""
    listed = {word for each in extensions if each.startswith("AUTH ") for word in each.split()[1:]}
    return tuple(name for name in _ORDER if name in listed)
