"""SASL (RFC 4422): how a client proves who it is, and what it is checked against.  No stream, no Trio, no SMTP.

The map of the room::

    exchange.py    what an exchange yields and what comes of it
    mechanism.py   PLAIN, LOGIN, CRAM-MD5, DIGEST-MD5, EXTERNAL
    scram.py       SCRAM-SHA-256 and -PLUS
    password.py    stored passwords: argon2, scrypt, pbkdf2, SCRAM's keys
    store.py       files of passwords
    identity.py    who a client certificate stands for
"""

from triosmtp.auth.exchange import Challenge, Circumstances, Claim, Exchange, Lookup, Malformed
from triosmtp.auth.identity import IdentityMap
from triosmtp.auth.mechanism import MECHANISMS, PLAINTEXT, Mechanism
from triosmtp.auth.password import SCHEMES, hash_password, prepare_password
from triosmtp.auth.store import PasswordFile, Secret, StoreError

__all__ = [
    "MECHANISMS", "PLAINTEXT", "SCHEMES", "Challenge", "Circumstances", "Claim", "Exchange", "IdentityMap", "Lookup",
    "Malformed", "Mechanism", "PasswordFile", "Secret", "StoreError", "hash_password", "prepare_password",
]  # fmt: skip
