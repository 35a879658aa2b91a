"""Users of NATS with nkeys and JWTs, as ``nsc`` makes them: an operator, an account, a user with permissions."""

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

__all__ = ["Nkey", "jwt_of", "operator_config", "write_credentials"]

_PREFIXES: Final = {"O": 14 << 3, "A": 0, "U": 20 << 3}


class Nkey:
    """The key of an operator (O), an account (A) or a user (U)."""

    def __init__(self, kind: str) -> None:
        self._prefix = _PREFIXES[kind]
        self._key = Ed25519PrivateKey.generate()

    @property
    def public(self) -> str:
        """The public key in the form of NATS."""
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return _encode(bytes((self._prefix,)) + raw)

    @property
    def seed(self) -> str:
        """The seed in the form of NATS."""
        raw = self._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return _encode(bytes((18 << 3 | self._prefix >> 5, (self._prefix & 31) << 3)) + raw)

    def sign(self, data: bytes) -> bytes:
        """Sign."""
        return self._key.sign(data)

    def verify(self, signature: bytes, data: bytes) -> None:
        """Verify a signature."""
        self._key.public_key().verify(signature, data)


def _encode(data: bytes) -> str:
    return base64.b32encode(data + binascii.crc_hqx(data, 0).to_bytes(2, "little")).decode().rstrip("=")


def jwt_of(subject: Nkey, issuer: Nkey, name: str, claims: Mapping[str, Any]) -> str:
    """Return a JWT of version 2."""
    body = {"iat": int(time.time()), "iss": issuer.public, "sub": subject.public, "name": name}
    body["nats"] = {"version": 2, **claims}
    body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
    parts = [_part({"typ": "JWT", "alg": "ed25519-nkey"}), _part(body)]
    signature = issuer.sign(".".join(parts).encode())
    return ".".join([*parts, base64.urlsafe_b64encode(signature).decode().rstrip("=")])


def _part(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


_NO_LIMIT: Final = {
    "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1,
    "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
}  # fmt: skip


def operator_config(account: Nkey) -> str:
    """Return the configuration of a server whose users need JWTs of ``account``."""
    operator, system = Nkey("O"), Nkey("A")
    claims = {"type": "account", "limits": _NO_LIMIT}
    tokens = {each: jwt_of(each, operator, name, claims) for name, each in (("mail", account), ("sys", system))}
    preload = "\n".join(f"  {each.public}: {token}" for each, token in tokens.items())
    return (
        f"operator: {jwt_of(operator, operator, 'op', {'type': 'operator'})}\n"
        f"jetstream: false\nsystem_account: {system.public}\nresolver: MEMORY\nresolver_preload: {{\n{preload}\n}}\n"
    )


def write_credentials(path: Path, account: Nkey, permissions: Mapping[str, Any] | None = None) -> Path:
    """Write the .creds file of a new user of ``account``, 0600."""
    user = Nkey("U")
    claims = {"type": "user", "subs": -1, "data": -1, "payload": -1, **(permissions or {})}
    token = jwt_of(user, account, "user", claims)
    path.touch(0o600)
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"************************* IMPORTANT *************************\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    return path
