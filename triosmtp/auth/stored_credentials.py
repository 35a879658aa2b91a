"""The stored credentials of a user, or mock credentials if there is no such user.

**Theory.**  A client must not find out which users exist, neither by a reply nor by its delay.  So nothing here reports
"no such user": a look-up always returns :class:`StoredCredentials`.  Those of an unknown user look like those of the
file, take the same work to check, and prove nothing.

*The same work.*  A password in clear text is checked once against each form of hash that the file has.  In the
user's own form it is checked against the user's hash, in the other forms against hashes of other users.  So the delay
depends neither on whether the user exists nor on the form of the stored password.

For SCRAM, the file may hold some passwords in clear text and others as derived keys.  If one password of the file is in
clear text, keys are derived in every attempt, also for users with stored keys and for users that do not exist.  This
happens after the client has sent its proof, when the attempt is counted.  Derived keys are not cached, because a user
with cached keys would be answered sooner than an unknown one.

*The same look.*  The salt is derived from the user's name and the key of ``mock_credentials.py``, so that it stays the
same.  The number of iterations is one that the file has.
"""

import hashlib
import hmac
from collections.abc import Mapping

from attrs import field, frozen

from triosmtp.auth.password import (
    SCRAM_ITERATIONS,
    ScramKeys,
    derive_scram_keys,
    hash_form,
    is_hash,
    parse_scram_record,
    verify_password,
)

__all__ = ["SCRAM_SALT", "MockParameters", "StoredCredentials"]

SCRAM_SALT = 16
"""Octets of the salt, if the keys are derived from a password in clear text."""


@frozen(slots=True, kw_only=True)
class MockParameters:
    """The properties of one password file that mock credentials share."""

    key: bytes = field(repr=False)
    """The key of :class:`triosmtp.auth.mock_credentials.MockKey`."""
    hashes: Mapping[str, str] = field(factory=dict, repr=False)
    """One hash of each form in the file, by its form."""
    derives: bool = False
    """Whether the keys of SCRAM are derived for any user: a password is stored in clear text."""
    salts: tuple[tuple[int, int], ...] = ((SCRAM_ITERATIONS, SCRAM_SALT),)
    """Iterations and octets of salt for SCRAM: each pair in the file once."""


@frozen(slots=True)
class StoredCredentials:
    """The stored credentials of a user, or mock credentials of an unknown one: no password matches them."""

    user: str
    known: bool
    mock: MockParameters
    _stored: str = field(default="", repr=False)
    digests: Mapping[str, str] = field(factory=dict, repr=False)
    """By realm, ``MD5(user:realm:password)`` in hexadecimal."""

    @property
    def reason(self) -> str:
        """Why they cannot prove the user, for the log; ``""`` if they can."""
        if not self.known:
            return "no such user"
        return "" if self.cleartext is not None or self._record is not None or self.digests else "only a hash"

    @property
    def cleartext(self) -> str | None:
        """The password, if it is stored in clear text."""
        return self._stored if self.known and self._stored and not is_hash(self._stored) else None

    @property
    def mock_password(self) -> str:
        """A password that nobody knows, to do the same work."""
        return self._mock_octets("password").hex()

    def verify(self, password: str) -> bool:
        """Return whether ``password`` is right.  It blocks; the work is the same for every user."""
        own = hash_form(self._stored) if self._stored else ""
        right = bool(self._stored) and verify_password(self._stored, password)
        for form, stored in self.mock.hashes.items():
            if form != own:
                verify_password(stored, password)
        return right and self.known

    def digest(self, user: str, realm: str) -> bytes | None:
        """Return the octets of ``MD5(user:realm:password)`` (RFC 2831, section 2.1.2.1), or None."""
        if realm in self.digests:
            return bytes.fromhex(self.digests[realm])
        if self.cleartext is None:
            return None
        return hashlib.md5(f"{user}:{realm}:{self.cleartext}".encode(), usedforsecurity=False).digest()

    @property
    def mock_digest(self) -> bytes:
        """The octets to compare with if :meth:`digest` returns None."""
        return hashlib.md5(self.mock_password.encode(), usedforsecurity=False).digest()

    @property
    def proves_by_scram(self) -> bool:
        """Whether the keys of SCRAM are those of a real password."""
        return self.cleartext is not None or self._record is not None

    @property
    def salt(self) -> tuple[bytes, int]:
        """Salt and iterations, as SCRAM sends them to the client."""
        record = self._record
        if record is not None:
            return record.salt, record.iterations
        iterations, size = SCRAM_ITERATIONS, SCRAM_SALT
        if self.cleartext is None:
            salts = self.mock.salts
            iterations, size = salts[int.from_bytes(self._mock_octets("pair")) % len(salts)]
        return self._mock_octets("salt", size), iterations

    def derive(self) -> ScramKeys:
        """Return the keys of SCRAM-SHA-256, or mock keys.  It blocks for 10 ms; the work is the same for every user."""
        salt, iterations = self.salt
        keys = self._record or ScramKeys(salt, iterations, self._mock_octets("stored"), self._mock_octets("server"))
        if self.mock.derives:
            derived = derive_scram_keys(self.cleartext or self.mock_password, salt, SCRAM_ITERATIONS)
            keys = derived if self.cleartext is not None else keys
        return keys

    @property
    def _record(self) -> ScramKeys | None:
        return parse_scram_record(self._stored) if self._stored.startswith("SCRAM-SHA-256$") else None

    def _mock_octets(self, purpose: str, size: int = 32) -> bytes:
        seed = hmac.digest(self.mock.key, f"{purpose}:{self.user}".encode(), "sha256")
        return hashlib.shake_256(seed).digest(size)
