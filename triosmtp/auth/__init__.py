"""SASL (RFC 4422): how a client proves who it is, and what it is checked against.  No stream, no Trio, no SMTP.

The map of the room::

    exchange.py    what an exchange yields and what comes of it
    mechanism.py   PLAIN, LOGIN, CRAM-MD5, DIGEST-MD5, EXTERNAL
    scram.py       SCRAM-SHA-256 and -PLUS
    password.py    stored passwords: argon2, scrypt, pbkdf2, SCRAM's keys
    secret.py      what a password is checked against
    decoy.py       the key that makes the decoys for users who are not known
    store.py       files of passwords
    identity.py    who a client certificate stands for
"""

from triosmtp.auth.decoy import DecoyKey
from triosmtp.auth.exchange import Answer, Challenge, Circumstances, Claim, Derivation, Exchange, Lookup, Malformed
from triosmtp.auth.identity import IdentityMap
from triosmtp.auth.mechanism import MECHANISMS, PLAINTEXT, Mechanism
from triosmtp.auth.password import SCHEMES, ScramKeys, hash_password, is_hash, prepare_password
from triosmtp.auth.secret import Likeness, Secret
from triosmtp.auth.store import PasswordFile, StoreError, split_lines, user_of

__all__ = [
    "MECHANISMS", "PLAINTEXT", "SCHEMES", "Answer", "Challenge", "Circumstances", "Claim", "DecoyKey", "Derivation",
    "Exchange", "IdentityMap", "Likeness", "Lookup", "Malformed", "Mechanism", "PasswordFile", "ScramKeys", "Secret",
    "StoreError", "hash_password", "is_hash", "prepare_password", "split_lines", "user_of",
]  # fmt: skip
