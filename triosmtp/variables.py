"""The connection and message context: variables that policies read and write; and the result of a TLS handshake.

Names and meanings are those of Momentum, and there are the names of Postfix for the same values, so that policies for
either can be ported.  Some keys may be written by the TLS engine only: ``tls``, every ``tls_…``, and the names of
Postfix.  This is enforced here, so that no policy, no ``Context`` option and no peer can claim a verified certificate.
"""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import datetime
from typing import Final, TypeVar, overload

from attrs import frozen

__all__ = ["DELIVER_TO", "NO_CERTIFICATE", "POSTFIX_ALIASES", "TLSInfo", "Variables", "is_reserved"]

DELIVER_TO: Final = "deliver_to"
"""The variable of the message context by which policy chooses a Delivery: for the message, or for a recipient."""

T = TypeVar("T")

_MAX_NAMES: Final = 100  # alternative names in a variable
_MAX_NAME: Final = 1024  # characters of one of them

NO_CERTIFICATE: Final = "no certificate presented"
"""The verify error if the client presented no certificate, whether it was asked for one or not."""

POSTFIX_ALIASES: Final = frozenset({
    "ccert_subject", "ccert_issuer", "ccert_fingerprint", "ccert_pubkey_fingerprint", "encryption_protocol",
    "encryption_cipher", "encryption_keysize",
})  # fmt: skip
"""The TLS attributes that Postfix sends to a policy service (its SMTPD_POLICY_README)."""


def is_reserved(key: str) -> bool:
    """Return whether only the TLS engine may write ``key``: ``tls``, every ``tls_…``, and :data:`POSTFIX_ALIASES`."""
    return key.startswith("tls_") or key == "tls" or key in POSTFIX_ALIASES


class Variables(MutableMapping[str, str]):
    """A context: a mapping of ``str`` to ``str``.

    To write or delete a key for which :func:`is_reserved` holds raises :class:`KeyError`; a key or value that is not a
    ``str`` raises :class:`TypeError`.  ``clear()`` keeps reserved keys.
    """

    __slots__ = ("_values", "record", "renew", "snapshot")

    record: Callable[[Mapping[str, str]], None]
    """Write values for the engine, reserved keys included.  Not for policies."""
    renew: Callable[[], None]
    """Remove every variable, reserved ones too.  Not for policies."""
    snapshot: Callable[[], dict[str, str]]
    """Return a copy that later changes do not touch."""

    def __init__(self, values: Mapping[str, str] = {}) -> None:
        self._replace({})
        if values:
            for key, value in values.items():
                self[key] = value

    def _replace(self, values: dict[str, str]) -> None:
        # Every command writes variables: methods of the dict take no frame.
        self._values = values
        self.record = values.update
        self.renew = values.clear
        self.snapshot = values.copy

    def __reduce__(self) -> tuple[Callable[[dict[str, str]], "Variables"], tuple[dict[str, str]]]:
        # Without it, the methods of a copy would be those of the original's dict.
        return _copy, (self._values.copy(),)

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __setitem__(self, key: str, value: str) -> None:
        # Not all policies are type-checked, and a number in a context would raise far from the mistake.
        if type(key) is not str or type(value) is not str:
            raise TypeError(f"context variables map str to str, not {key!r} to {value!r}")
        if is_reserved(key):
            raise KeyError(f"{key} is written by the TLS engine alone")
        self._values[key] = value

    def __delitem__(self, key: str) -> None:
        if is_reserved(key):
            raise KeyError(f"{key} is written by the TLS engine alone")
        del self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __repr__(self) -> str:
        return f"Variables({self._values!r})"

    @overload
    def get(self, key: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, key: str, default: str | T, /) -> str | T: ...
    def get(self, key: str, default: str | T | None = None, /) -> str | T | None:
        """Return the value of ``key``, or ``default``."""
        return self._values.get(key, default)  # that of the base class catches an exception

    def clear(self) -> None:
        """Remove every variable that is not reserved."""
        self._replace({k: v for k, v in self._values.items() if is_reserved(k)})

    def apply(self, changes: Mapping[str, str | None]) -> None:
        """Set variables, and remove those whose value is None.

        :raises KeyError: if only the TLS engine may write one of them; then nothing is changed.
        """
        for key in changes:
            if is_reserved(key):
                raise KeyError(f"{key} is written by the TLS engine alone")
        for key, value in changes.items():
            if value is None:
                self._values.pop(key, None)
            else:
                self[key] = value

    def forget(self, *prefixes: str) -> None:
        """Remove every key that begins with one of ``prefixes``, reserved ones too.  Not for policies."""
        self._replace({k: v for k, v in self._values.items() if not k.startswith(prefixes)})


def _copy(values: dict[str, str]) -> Variables:
    """Return a context with ``values``, reserved ones included."""
    context = Variables()
    context.record(values)
    return context


@frozen(slots=False, kw_only=True)  # made and unpickled in half the time
class TLSInfo:
    """The result of one TLS handshake, as a frozen value.

    ``verified`` is the result of the handshake itself, and the only field from which a right may be derived.  It is
    True only if a client certificate was presented, its verification was run, and there was no error at any depth.
    (Under TLS_Client_Purpose = client-or-server, the chain may have been verified as that of a server.)  Every
    ``client_…`` field of a certificate that is not verified is only a claim of the peer.
    """

    protocol: str
    cipher: str
    cipher_algbits: int
    cipher_usebits: int
    group: str | None = None
    sni: str | None = None
    alpn: str | None = None
    verified: bool = False
    verify_error: str | None = None
    """The text of OpenSSL for the first error, ``no certificate presented``, or None if verified.  If a certificate of
    the chain is revoked, this and ``verify_code`` say so, even if another error came first."""
    verify_code: int = 0
    """The number of the first error (``X509_V_ERR_…``); 0 if verified, or if there was no certificate."""
    server_purpose: bool = False
    """Whether the chain verifies for the purpose of a TLS server, but not for that of a client.  Then
    TLS_Client_Purpose decides about ``verified``."""
    revoked: bool = False
    """Whether the certificate of the client, or one of its chain below the anchor, is in a list of TLS_Client_CRL.
    Such a client has no right by its certificate, neither by its names nor by a fingerprint."""
    client_certificate: bytes | None = None
    """The certificate of the client in DER, or None."""
    client_subject: str | None = None
    client_issuer: str | None = None
    client_subject_cn: str | None = None
    client_issuer_cn: str | None = None
    client_serial: str | None = None
    client_fingerprint_sha256: str | None = None
    client_spki_sha256: str | None = None
    client_sans: tuple[str, ...] = ()
    """``dns:…``, ``email:…``, ``ip:…``, ``uri:…``: every name of a verified certificate.  Of one that is not verified,
    the first 100, long ones cut, and ``…`` if there are more; or none if they take more than 8 KB."""
    client_eku: str | None = None
    """The extended key usage: ``client``, ``server`` or ``both``; ``any`` if it has neither of them, but
    anyExtendedKeyUsage (which OpenSSL accepts for neither); else ``none``.  None: there is no such extension."""
    client_not_before: datetime | None = None
    client_not_after: datetime | None = None
    handshake_seconds: float = 0.0

    def without_client(self, reason: str) -> "TLSInfo":
        """Return a copy without the client certificate, with ``reason`` as its ``verify_error``."""
        return TLSInfo(
            protocol=self.protocol, cipher=self.cipher, cipher_algbits=self.cipher_algbits,
            cipher_usebits=self.cipher_usebits, group=self.group, sni=self.sni, alpn=self.alpn, verify_error=reason,
            handshake_seconds=self.handshake_seconds,
        )  # fmt: skip

    def variables(self) -> dict[str, str]:
        """Return the context variables of this handshake: names of Momentum, of triosmtp, and of Postfix."""
        values = {
            "tls": "on",
            "tls_cipher": self.cipher,
            "tls_cipher_algbits": str(self.cipher_algbits),
            "tls_cipher_usebits": str(self.cipher_usebits),
            "tls_client_verified": "yes" if self.verified else "no",
            "tls_protocol": self.protocol,
        }
        if self.group is not None:
            values["tls_group"] = self.group
        if self.sni is not None:
            values["tls_sni"] = self.sni
        if self.verify_error is not None:
            values["tls_client_verify_error"] = self.verify_error
        if self.verify_error != NO_CERTIFICATE:
            values.update(self._of_certificate())
        values["encryption_protocol"] = self.protocol
        values["encryption_cipher"] = self.cipher
        values["encryption_keysize"] = str(self.cipher_usebits)
        if self.verify_error != NO_CERTIFICATE:
            values.update(self._aliases())
        return values

    def _of_certificate(self) -> dict[str, str]:
        """Return the variables of the client certificate."""
        optional = {
            "tls_client_cert_subject": self.client_subject,
            "tls_client_cert_issuer": self.client_issuer,
            "tls_client_cert_subject_cn": self.client_subject_cn,
            "tls_client_cert_issuer_cn": self.client_issuer_cn,
            "tls_client_cert_serial": self.client_serial,
            "tls_client_cert_fingerprint_sha256": self.client_fingerprint_sha256,
            "tls_client_cert_spki_sha256": self.client_spki_sha256,
            "tls_client_cert_revoked": "yes" if self.revoked else None,
            "tls_client_cert_sans": _bounded(self.client_sans),
            "tls_client_eku": self.client_eku,
            "tls_client_cert_not_before": _rfc3339(self.client_not_before),
            "tls_client_cert_not_after": _rfc3339(self.client_not_after),
        }
        return {name: value for name, value in optional.items() if value is not None}

    def _aliases(self) -> dict[str, str]:
        """Return the variables of Postfix for the certificate of the client, with values as Postfix sets them.

        The names of a certificate are set only if it is verified.  The fingerprints of every certificate that is not
        revoked are set, in upper case with colons.  The digest is SHA-256 (in Postfix: smtpd_tls_fingerprint_digest).
        """
        optional = {
            "ccert_subject": _xtext(self.client_subject_cn) if self.verified else None,
            "ccert_issuer": _xtext(self.client_issuer_cn) if self.verified else None,
            "ccert_fingerprint": None if self.revoked else _colons(self.client_fingerprint_sha256),
            "ccert_pubkey_fingerprint": None if self.revoked else _colons(self.client_spki_sha256),
        }
        return {name: value for name, value in optional.items() if value is not None}


def _bounded(names: tuple[str, ...]) -> str | None:
    """Return the names as the value of a variable: the first 100, long ones cut."""
    shown = [name if len(name) <= _MAX_NAME else name[:_MAX_NAME] + "…" for name in names[:_MAX_NAMES]]
    return ",".join([*shown, "…"] if len(names) > _MAX_NAMES else shown) or None


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _xtext(text: str | None) -> str | None:
    """Encode as Postfix does in its policy protocol (RFC 3461, section 4): ``Example+20CA``."""
    if text is None:
        return None
    return "".join(
        chr(octet) if 33 <= octet <= 126 and octet not in b"+=" else f"+{octet:02X}"
        for octet in text.encode("utf-8", "surrogatepass")
    )


def _colons(digest: str | None) -> str | None:
    return None if digest is None else bytes.fromhex(digest).hex(":").upper()
