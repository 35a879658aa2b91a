"""Authentication-Results (RFC 8601): what we found out about the sender, and nobody else's word under our name.

A field says what our own handshake and our own AUTH established.  Whoever reads it trusts it because it bears our name,
so fields that bear it when they arrive are forged, and are taken out (section 5).
"""

import re
import shutil
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from triosmtp.policy import Authenticated
from triosmtp.spool import Body, rewrite
from triosmtp.trace import field, has_field
from triosmtp.variables import TLSInfo

__all__ = ["is_forged", "results_field", "without_forged"]

_NAME: Final = "Authentication-Results"
_BEGINS: Final = re.compile(rb"authentication-results[ \t]*:", re.IGNORECASE)
_TOKEN: Final = re.compile(r"""[!#-'*+.\w^`{|}~$%&-]+""", re.ASCII)  # RFC 2045, section 5.1
_MAILBOX: Final = re.compile(
    r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9.-]+"
)  # may stand as it is (section 2.2)
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SPECIAL: Final = re.compile(r'[\\"]')
_CLAIM: Final = 255  # characters of what a peer claims
_PIECE: Final = 65_536
_LONGEST: Final = 65_536  # octets of a field that may be an honest one


def results_field(authserv_id: str, auth: Authenticated | None, tls: TLSInfo | None, *, utf8: bool = False) -> bytes:
    """Give the field, or ``b""`` where there is nothing to tell: neither AUTH nor a client certificate."""
    results = []
    if auth is not None:
        results.append(f"auth=pass ({_word(auth.mechanism.lower())}) smtp.auth={_value(auth.user, utf8=utf8)}")
    if tls is not None and tls.client_certificate is not None:
        result = "x-client-cert=pass"
        if not tls.verified:
            result = f"x-client-cert=fail reason={_value(tls.verify_error or 'not verified', utf8=utf8)}"
        if tls.client_subject:
            result += f" policy.subject={_value(tls.client_subject, utf8=utf8)}"
        if tls.client_fingerprint_sha256:
            result += f" policy.sha256={tls.client_fingerprint_sha256}"
        results.append(result)
    if not results:
        return b""
    clauses = [_value(authserv_id, utf8=utf8), *results]
    return field(_NAME, *(f"{clause};" for clause in clauses[:-1]), clauses[-1])


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9-]", "?", text)


def _value(text: str, *, utf8: bool) -> str:
    """Give ``text`` as a value: a token, or quoted (RFC 2045, section 5.1; UTF-8 by RFC 6532)."""
    text = "".join(c if c.isprintable() else "?" for c in text[:_CLAIM])
    if not utf8:
        text = text.encode("ascii", "replace").decode("ascii")
    if _TOKEN.fullmatch(text) or _MAILBOX.fullmatch(text):
        return text
    escaped = _SPECIAL.sub(r"\\\g<0>", text)
    return f'"{escaped}"'


async def without_forged(body: Body, authserv_id: str, directory: Path | None) -> Body:
    """Give ``body`` without the Authentication-Results fields that bear ``authserv_id``: itself where there are none.

    Where it is another one, the old one was closed.

    :raises SpoolError: where it cannot be read or written anew.
    """
    headers = body.headers()
    ends_later = len(headers) == len(body.head) < body.size  # the header is longer than what is in memory of it
    if not (ends_later or has_field(headers, _NAME.encode("ascii"))):
        return body
    return await rewrite(body, partial(_copy, authserv_id), directory)


def _copy(authserv_id: str, source: BinaryIO, target: BinaryIO) -> bool:
    """Copy a message but for the forged fields; give whether there were any.  Blocks."""
    removed = False
    held: list[bytes] | None = None  # the pieces of a field that may be forged
    size = 0
    begins = True

    def let_go() -> bool:
        if held is None:
            return False
        whole = b"".join(held)
        if size > _LONGEST or is_forged(whole, authserv_id):
            return True
        target.write(whole)
        return False

    while piece := source.readline(_PIECE):
        if begins and piece[:1] not in b" \t":
            removed |= let_go()
            held, size = [] if _BEGINS.match(piece) else None, 0
            if piece in {b"\r\n", b"\n"}:
                target.write(piece)
                break
        begins = piece.endswith(b"\n")
        if held is None:
            target.write(piece)
        elif size <= _LONGEST:  # what is longer is nobody's, and its rest is not kept
            held.append(piece)
            size += len(piece)
    else:
        removed |= let_go()
    if removed:  # otherwise the copy is of no use
        shutil.copyfileobj(source, target, _PIECE)
    return removed


def is_forged(whole: bytes, authserv_id: str) -> bool:
    """Whether a field, from its name to its last line end, bears ``authserv_id``.

    One that cannot be understood does where it names it anywhere.
    """
    value = whole.partition(b":")[2].decode("latin-1").replace("\r\n", "").replace("\n", "")
    at = _behind_comments(value)
    ours = authserv_id.lower().rstrip(".")
    quoted, token = _QUOTED.match(value, at), _TOKEN.match(value, at)
    if quoted is not None:
        name = re.sub(r"\\(.)", r"\1", quoted[1])
    elif token is not None:
        name = token[0]
    else:
        return ours in value.lower()
    return name.strip().lower().rstrip(".") == ours


def _behind_comments(value: str) -> int:
    """Give where ``value`` goes on behind its leading blanks and comments (RFC 5322, section 3.2.2)."""
    at, depth = 0, 0
    while at < len(value):
        match value[at]:
            case "(":
                depth += 1
            case ")" if depth:
                depth -= 1
            case "\\" if depth:
                at += 1
            case " " | "\t":
                pass
            case _ if not depth:
                break
        at += 1
    return at
