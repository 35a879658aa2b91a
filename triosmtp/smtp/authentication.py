"""The lines of AUTH (RFC 4954): the command, and what the client answers to each 334."""

import base64
import binascii
from typing import Final

from triosmtp.smtp.event import Auth, AuthResponse, Event
from triosmtp.smtp.fact import CommandError, Facts
from triosmtp.smtp.reply import Reply

__all__ = ["MAX_AUTH_LINE", "parse_auth", "parse_response"]

MAX_AUTH_LINE: Final = 12_288
"""Octets of a line of AUTH with its CRLF (RFC 4954, section 4)."""

_BASE64: Final = Reply(501, "Cannot decode this response: not base64", "5.5.2")


def parse_auth(line: bytes, argument: bytes, facts: Facts) -> Event:  # noqa: ARG001 - as every Parser
    """AUTH mechanism [initial-response]."""
    if not (facts.mechanisms or facts.withheld):
        raise CommandError(Reply(502, "Command not implemented", "5.5.1"), "AUTH is not offered")
    if not facts.esmtp:
        raise CommandError(Reply(503, "Send EHLO first", "5.5.1"), "AUTH without EHLO")
    if facts.authenticated:
        raise CommandError(Reply(503, "Already authenticated", "5.5.1"), "a second AUTH")
    words = argument.split(b" ")
    if len(words) > 2 or not words[0] or not words[0].isascii():
        raise CommandError(Reply(501, "Syntax: AUTH mechanism [initial-response]", "5.5.4"), "malformed AUTH")
    mechanism = words[0].decode("ascii").upper()
    if mechanism in facts.withheld:
        reply = Reply(538, "Encryption is required for this mechanism", "5.7.11")
        raise CommandError(reply, f"{mechanism} before TLS")
    if mechanism not in facts.mechanisms:
        raise CommandError(Reply(504, "Unrecognized authentication type", "5.5.4"), "a mechanism that is not offered")
    if len(words) == 1:
        return Auth(mechanism)
    return Auth(mechanism, _decoded(words[1]))


def parse_response(line: bytes) -> AuthResponse:
    """The answer to a 334: base64, or ``*`` to cancel (RFC 4954, section 4).

    That nothing is ``=`` holds for initial responses alone, and for clients that write it here, too (curl 7.88).
    """
    return AuthResponse(None if line == b"*" else _decoded(line))


def _decoded(text: bytes) -> bytes:
    if text == b"=":
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise CommandError(_BASE64, "a response of AUTH that is not base64") from None
