"""Messages in recordings: the clients that may record them, and their form in ``session.phase``."""

from base64 import b64decode, b64encode
from typing import Any, Final

from triosmtp.message.spool import Body
from triosmtp.policy_service.connected_client import ConnectedClient
from triosmtp.policy_service.json_rpc import ErrorCode, ProtocolError
from triosmtp.policy_service.question import Excerpt

__all__ = ["BODY_PART", "MAX_RECORDED", "check_may_record", "decode_body", "encode_body"]

BODY_PART: Final = 65536
"""Bytes of a message in one part."""
MAX_RECORDED: Final = 4 * 1024 * 1024
"""Bytes of a message in a recording, even if Body_Limit is larger: a notification is one frame."""


def check_may_record(client: ConnectedClient) -> None:
    """Check that a client may record messages.

    :raises ProtocolError: if it may not.
    """
    if not client.admin:
        raise ProtocolError(ErrorCode.ADMIN_NEEDED, "bodies needs the token of Admin_Token_File")
    if not client.access.private:
        raise ProtocolError(ErrorCode.FAILED, "bodies needs a Unix socket or TLS")
    if not client.access.body_limit:
        raise ProtocolError(ErrorCode.FAILED, "bodies: Body_Limit is 0")


def encode_body(excerpt: Excerpt | None, limit: int) -> dict[str, Any]:
    """Return the field ``body`` of ``session.phase``: up to ``limit`` bytes, in parts, each in base64."""
    if excerpt is None:
        return {}
    data = excerpt.data[:limit]
    parts = [b64encode(data[at : at + BODY_PART]).decode("ascii") for at in range(0, len(data), BODY_PART)]
    return {"body": {"parts": parts, "truncated": len(data) < excerpt.size}}


def decode_body(value: object) -> Body | None:
    """Return the message in a recorded phase; None if there is none.

    :raises ValueError: if it is damaged.
    """
    if value is None:
        return None
    parts = value.get("parts") if isinstance(value, dict) else None
    if not isinstance(parts, list) or not all(isinstance(each, str) for each in parts):
        raise ValueError("body.parts: expected a list of strings")
    return Body(b"".join(b64decode(each, validate=True) for each in parts))
