"""The process at the other end of a Unix socket, as the kernel reports it."""

import os
import socket
import struct
from pathlib import Path
from typing import Final

__all__ = ["check_peer_credentials"]

_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; Python has no name for it
_GROUPS_SIZE: Final = 1024  # getsockopt() of Python accepts no more: 256 groups


def check_peer_credentials(sock: socket.socket, mode: int) -> str | None:
    """Return None if the peer may connect, otherwise a description of the peer.

    Root, the user of this process, and the users that ``mode`` of the socket allows may connect.
    """
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if uid in {0, os.geteuid()} or mode & 0o002:
        return None
    peer = f"process {pid} of user {uid}, group {gid}"
    if mode & 0o020:
        try:
            packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_SIZE)
            if Path(sock.getsockname()).stat().st_gid in {gid, *struct.unpack(f"{len(packed) // 4}I", packed)}:
                return None
        except OSError as error:
            return f"{peer}: {error.strerror}"
    return peer
