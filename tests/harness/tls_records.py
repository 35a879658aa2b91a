"""A client that writes any TLS record, also those that no library writes: OpenSSL does its handshake."""

import struct

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from OpenSSL import SSL

__all__ = ["ALERT", "APPLICATION_DATA", "CHANGE_CIPHER_SPEC", "HANDSHAKE", "RecordClient"]

CHANGE_CIPHER_SPEC = 20
ALERT = 21
HANDSHAKE = 22
APPLICATION_DATA = 23


class RecordClient:
    """A client whose records are encrypted by :meth:`record` once its handshake is done (AES-128-GCM)."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._secret = b""
        self._number = 0 if version == "TLSv1.3" else 1  # TLS 1.2: Finished was the first record
        self._key: AESGCM | None = None
        self._iv = b""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        number = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}[version]
        context.set_min_proto_version(number)
        context.set_max_proto_version(number)
        context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256")
        context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256")
        context.set_keylog_callback(self._keep_secret)
        self.connection = SSL.Connection(context)
        self.connection.set_connect_state()

    def _keep_secret(self, _connection: SSL.Connection, line: bytes) -> None:
        name, _, secret = line.split(b" ")
        if name == b"CLIENT_TRAFFIC_SECRET_0":
            self._secret = bytes.fromhex(secret.decode())

    def record(self, kind: int, data: bytes) -> bytes:
        """Return the next record, of that type and with that plaintext, however long."""
        if self._key is None:
            self._derive()
        assert self._key is not None
        number, self._number = struct.pack("!Q", self._number), self._number + 1
        if self.version == "TLSv1.3":
            header = struct.pack("!BHH", APPLICATION_DATA, 0x0303, len(data) + 17)
            nonce = bytes(a ^ b for a, b in zip(self._iv, bytes(4) + number, strict=True))
            return header + self._key.encrypt(nonce, data + bytes([kind]), header)
        header = struct.pack("!BHH", kind, 0x0303, len(data) + 24)
        additional = number + struct.pack("!BHH", kind, 0x0303, len(data))
        return header + number + self._key.encrypt(self._iv + number, data, additional)

    def key_update(self, *, request: bool = True) -> bytes:
        """Return a KeyUpdate (RFC 8446, section 4.6.3); the records behind it have the next key."""
        return self.finish_key_update(bytes((24, 0, 0, 1, request)))

    def finish_key_update(self, part: bytes) -> bytes:
        """Return the last part of a KeyUpdate."""
        record = self.record(HANDSHAKE, part)
        self._secret = self._expand(b"traffic upd", 32)
        self._key, self._number = None, 0
        return record

    def _derive(self) -> None:
        if self.version == "TLSv1.3":
            self._key, self._iv = AESGCM(self._expand(b"key", 16)), self._expand(b"iv", 12)
            return
        connection = self.connection
        seed = b"key expansion" + (connection.server_random() or b"") + (connection.client_random() or b"")
        secret, block, a = connection.master_key() or b"", b"", seed
        while len(block) < 40:
            a = _mac(secret, a)
            block += _mac(secret, a + seed)
        self._key, self._iv = AESGCM(block[:16]), block[32:36]

    def _expand(self, label: bytes, size: int) -> bytes:
        """Derive a key: HKDF-Expand-Label (RFC 8446, section 7.1), for at most one hash."""
        info = struct.pack("!HB", size, len(label) + 6) + b"tls13 " + label + b"\0"
        return _mac(self._secret, info + b"\1")[:size]


def _mac(key: bytes, data: bytes) -> bytes:
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(data)
    return mac.finalize()
