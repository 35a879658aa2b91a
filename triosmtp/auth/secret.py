"""What a password is checked against: what is stored for a user, or for one who is not known.

**The theory.**  Nobody may find out who is known here: not by an answer, nor by how long it takes.  So there is no "no
such user" inside: a look-up always gives a :class:`Secret`, and for a user who is not known one that looks like those
of the file, takes the same work and proves nobody.

*The same work* is that of the whole file: a readable password is checked against each form that the file holds, once;
against the user's own hash, and against a stranger's in the other forms.  So neither an unknown name nor one whose
password is stored in a cheaper form is answered sooner.  With SCRAM the keys are derived once for everybody where
anybody's must be.  They are derived when the client has sent its proof, not before: what has cost something is then an
attempt that is counted.  And they are not kept: a user whose keys are there already would be answered sooner than one
who does not exist.

*The same look* is a salt that is made of the name by the key of the service (``decoy.py``), so that asking twice gives
the same, and a number of iterations that somebody's in the file has.
"""

import hashlib
import hmac
from collections.abc import Mapping

from attrs import field, frozen

from triosmtp.auth.password import (
    SCRAM_ITERATIONS,
    ScramKeys,
    derive_scram,
    form_of,
    is_hash,
    read_scram,
    verify_password,
)

__all__ = ["SCRAM_SALT", "Likeness", "Secret"]

SCRAM_SALT = 16
"""Octets of the salt of keys that are derived of a readable password."""


@frozen(slots=True, kw_only=True)
class Likeness:
    """What the secrets of one file have in common."""

    key: bytes = field(repr=False)
    """Makes decoys of names."""
    hashes: Mapping[str, str] = field(factory=dict, repr=False)
    """One hash of each form that the file holds."""
    derives: bool = False
    """Whether SCRAM's keys are derived for anybody."""
    salts: tuple[tuple[int, int], ...] = ((SCRAM_ITERATIONS, SCRAM_SALT),)
    """What SCRAM's clients are told: iterations and octets of salt, each pair of the file once."""


@frozen(slots=True)
class Secret:
    """What is stored for a user, or for one who is not known: then nothing that it gives proves anybody."""

    user: str
    known: bool
    like: Likeness
    _stored: str = field(default="", repr=False)
    digests: Mapping[str, str] = field(factory=dict, repr=False)
    """By realm, ``MD5(user:realm:password)`` in hexadecimal."""

    @property
    def reason(self) -> str:
        """Why it proves nobody, for the log."""
        if not self.known:
            return "no such user"
        return "" if self.cleartext is not None or self._record is not None or self.digests else "only a hash"

    @property
    def cleartext(self) -> str | None:
        """The password itself, where it is stored so."""
        return self._stored if self.known and self._stored and not is_hash(self._stored) else None

    @property
    def decoy(self) -> str:
        """A password that nobody knows, to do the same work with."""
        return self._decoy("password").hex()

    def verify(self, password: str) -> bool:
        """Whether ``password`` is the right one.  Blocking; the same work whoever the user is."""
        own = form_of(self._stored) if self._stored else ""
        right = bool(self._stored) and verify_password(self._stored, password)
        for form, stored in self.like.hashes.items():
            if form != own:
                verify_password(stored, password)
        return right and self.known

    def digest(self, user: str, realm: str) -> bytes | None:
        """Give the octets of ``MD5(user:realm:password)`` (RFC 2831, section 2.1.2.1), or None."""
        if realm in self.digests:
            return bytes.fromhex(self.digests[realm])
        if self.cleartext is None:
            return None
        return hashlib.md5(f"{user}:{realm}:{self.cleartext}".encode(), usedforsecurity=False).digest()

    @property
    def decoy_digest(self) -> bytes:
        """What stands in its place where there is none."""
        return hashlib.md5(self.decoy.encode(), usedforsecurity=False).digest()

    @property
    def proves_by_scram(self) -> bool:
        """Whether the keys of SCRAM are those of a password."""
        return self.cleartext is not None or self._record is not None

    @property
    def salt(self) -> tuple[bytes, int]:
        """Salt and iterations, which SCRAM's client is told."""
        record = self._record
        if record is not None:
            return record.salt, record.iterations
        iterations, size = SCRAM_ITERATIONS, SCRAM_SALT
        if self.cleartext is None:
            salts = self.like.salts
            iterations, size = salts[int.from_bytes(self._decoy("pair")) % len(salts)]
        return self._decoy("salt", size), iterations

    def derive(self) -> ScramKeys:
        """Give the keys of SCRAM-SHA-256, or decoys.  Blocking, 10 ms; the same work whoever the user is."""
        salt, iterations = self.salt
        keys = self._record or ScramKeys(salt, iterations, self._decoy("stored"), self._decoy("server"))
        if self.like.derives:
            derived = derive_scram(self.cleartext or self.decoy, salt, SCRAM_ITERATIONS)
            keys = derived if self.cleartext is not None else keys
        return keys

    @property
    def _record(self) -> ScramKeys | None:
        return read_scram(self._stored) if self._stored.startswith("SCRAM-SHA-256$") else None

    def _decoy(self, what: str, size: int = 32) -> bytes:
        seed = hmac.digest(self.like.key, f"{what}:{self.user}".encode(), "sha256")
        return hashlib.shake_256(seed).digest(size)
