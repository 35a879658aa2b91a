"""Who is at the other end of a Unix socket, by the kernel's word."""

import os
import socket
import struct
from pathlib import Path
from typing import Final

__all__ = ["check_peer_credentials"]

_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; Python has no name for it
_GROUPS_BYTES: Final = 1024  # the most that Python asks for: 256 groups


def check_peer_credentials(sock: socket.socket, mode: int) -> str:
    """Say who connected, where that is neither root nor us, nor one whom the socket's ``mode`` lets in; else ``""``."""
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if uid in {0, os.geteuid()} or mode & 0o002:
        return ""
    if mode & 0o020:
        try:
            packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
            if Path(sock.getsockname()).stat().st_gid in {gid, *struct.unpack(f"{len(packed) // 4}I", packed)}:
                return ""
        except OSError as error:
            return f"process {pid} of user {uid}, group {gid}: {error.strerror}"
    return f"process {pid} of user {uid}, group {gid}"
