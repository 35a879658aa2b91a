"""SASL (RFC 4422): the mechanisms, and the stored credentials that they check.  No stream, no Trio, no SMTP.

The modules of this package::

    sasl_exchange.py         an exchange as a generator: its steps and its result
    mechanism.py             PLAIN, LOGIN, CRAM-MD5, DIGEST-MD5, EXTERNAL; the table of all mechanisms
    scram.py                 SCRAM-SHA-256 and SCRAM-SHA-256-PLUS
    password.py              hashes of passwords: argon2, scrypt, pbkdf2, SCRAM's keys
    stored_credentials.py    the stored credentials of one user, or mock credentials of an unknown user
    mock_credentials.py      the key that mock credentials are derived from
    password_file.py         files of users and passwords
    certificate_identity.py  the identity that a client certificate proves
    dovecot_codec.py         requests and answers of Dovecot's authentication protocol
    dovecot_exchange.py      an exchange that Dovecot runs
    sasl_client.py           the client's side, for connections to other servers
"""

from typing import TYPE_CHECKING

from triosmtp.lazy_import import lazy_names

if TYPE_CHECKING:
    from triosmtp.auth.certificate_identity import IdentityMap
    from triosmtp.auth.dovecot_codec import DovecotCodec, DovecotError, ServiceAnswer
    from triosmtp.auth.dovecot_exchange import READABLE_SECRETS, relay_exchange
    from triosmtp.auth.mechanism import MECHANISMS, PLAINTEXT, UNEXPECTED_RESPONSE, Mechanism
    from triosmtp.auth.mock_credentials import MockKey
    from triosmtp.auth.password import SCHEMES, ScramKeys, hash_password, is_hash, prepare_password
    from triosmtp.auth.password_file import AuthFileError, PasswordFile, split_lines, user_of
    from triosmtp.auth.sasl_client import SaslClient, SaslClientError
    from triosmtp.auth.sasl_exchange import (
        Answer,
        AuthServiceError,
        Challenge,
        Claim,
        Exchange,
        KeyDerivation,
        Lookup,
        MalformedResponse,
        Relay,
        SaslContext,
    )
    from triosmtp.auth.stored_credentials import MockParameters, StoredCredentials

__all__ = [
    "MECHANISMS",
    "PLAINTEXT",
    "READABLE_SECRETS",
    "SCHEMES",
    "UNEXPECTED_RESPONSE",
    "Answer",
    "AuthFileError",
    "AuthServiceError",
    "Challenge",
    "Claim",
    "DovecotCodec",
    "DovecotError",
    "Exchange",
    "IdentityMap",
    "KeyDerivation",
    "Lookup",
    "MalformedResponse",
    "Mechanism",
    "MockKey",
    "MockParameters",
    "PasswordFile",
    "Relay",
    "SaslClient",
    "SaslClientError",
    "SaslContext",
    "ScramKeys",
    "ServiceAnswer",
    "StoredCredentials",
    "hash_password",
    "is_hash",
    "prepare_password",
    "relay_exchange",
    "split_lines",
    "user_of",
]  # fmt: skip

_MODULES = {
    "triosmtp.auth.certificate_identity": ("IdentityMap",),
    "triosmtp.auth.dovecot_codec": ("DovecotCodec", "DovecotError", "ServiceAnswer"),
    "triosmtp.auth.dovecot_exchange": ("READABLE_SECRETS", "relay_exchange"),
    "triosmtp.auth.mechanism": ("MECHANISMS", "PLAINTEXT", "UNEXPECTED_RESPONSE", "Mechanism"),
    "triosmtp.auth.mock_credentials": ("MockKey",),
    "triosmtp.auth.password": ("SCHEMES", "ScramKeys", "hash_password", "is_hash", "prepare_password"),
    "triosmtp.auth.password_file": ("AuthFileError", "PasswordFile", "split_lines", "user_of"),
    "triosmtp.auth.sasl_client": ("SaslClient", "SaslClientError"),
    "triosmtp.auth.sasl_exchange": (
        "Answer",
        "AuthServiceError",
        "Challenge",
        "Claim",
        "Exchange",
        "KeyDerivation",
        "Lookup",
        "MalformedResponse",
        "Relay",
        "SaslContext",
    ),
    "triosmtp.auth.stored_credentials": ("MockParameters", "StoredCredentials"),
}

if not TYPE_CHECKING:  # a type checker would accept any name
    __getattr__ = lazy_names(__name__, _MODULES)
