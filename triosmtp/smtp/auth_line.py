"""The lines of AUTH (RFC 4954): the command, and the client's response to each 334."""

import base64
import binascii
from typing import Final

from triosmtp.smtp.dialogue_state import CommandError, DialogueState
from triosmtp.smtp.protocol_event import Auth, AuthResponse, Event
from triosmtp.smtp.reply import Reply

__all__ = ["MAX_AUTH_LINE", "parse_auth", "parse_response"]

MAX_AUTH_LINE: Final = 12_288
"""Octets of a line of AUTH with its CRLF (RFC 4954, section 4)."""

_BAD_BASE64: Final = Reply(501, "Cannot decode this response: not base64", "5.5.2")


def parse_auth(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
    """Parse AUTH mechanism [initial-response]."""
    if not (dialogue.mechanisms or dialogue.tls_only_mechanisms):
        raise CommandError(Reply(502, "Command not implemented", "5.5.1"), "AUTH is not offered")
    if not dialogue.esmtp:
        raise CommandError(Reply(503, "Send EHLO first", "5.5.1"), "AUTH without EHLO")
    if dialogue.authenticated:
        raise CommandError(Reply(503, "Already authenticated", "5.5.1"), "a second AUTH")
    words = argument.split(b" ")
    if len(words) > 2 or not words[0] or not words[0].isascii():
        raise CommandError(Reply(501, "Syntax: AUTH mechanism [initial-response]", "5.5.4"), "malformed AUTH")
    mechanism = words[0].decode("ascii").upper()
    if mechanism in dialogue.tls_only_mechanisms:
        reply = Reply(538, "Encryption is required for this mechanism", "5.7.11")
        raise CommandError(reply, f"{mechanism} before TLS")
    if mechanism not in dialogue.mechanisms:
        raise CommandError(Reply(504, "Unrecognized authentication type", "5.5.4"), "a mechanism that is not offered")
    if len(words) == 1:
        return Auth(mechanism)
    return Auth(mechanism, _decode(words[1]))


def parse_response(line: bytes) -> AuthResponse:
    """Parse the response to a 334: base64, or ``*`` to cancel (RFC 4954, section 4).

    ``=`` for an empty response is defined for initial responses only, but curl 7.88 sends it here too.
    """
    return AuthResponse(None if line == b"*" else _decode(line))


def _decode(text: bytes) -> bytes:
    if text == b"=":
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise CommandError(_BAD_BASE64, "an AUTH response that is not base64") from None
