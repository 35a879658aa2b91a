"""Authentication-Results (RFC 8601): write the server's own results, and remove forged fields.

A field states the results of the server's own handshake and AUTH.  Its readers trust it because it bears the server's
name.  So fields that bear this name when they arrive are forged, and are removed (section 5).
"""

import re
import shutil
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from triosmtp.domain import DomainError, domain_key
from triosmtp.message.spool import Body, rewrite
from triosmtp.message.trace import field
from triosmtp.policy import Authenticated
from triosmtp.variables import TLSInfo

__all__ = ["is_forged", "may_have_results", "results_field", "without_forged"]

_NAME: Final = "Authentication-Results"
_TOKEN: Final = re.compile(r"""[!#-'*+.\w^`{|}~$%&-]+""", re.ASCII)  # RFC 2045, section 5.1
_MAILBOX: Final = re.compile(
    r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9.-]+"
)  # may stand as it is (section 2.2)
_SPECIAL: Final = re.compile(r'[\\"]')
_CLAIM: Final = 255  # characters of what a peer claims

_LOWER_NAME: Final = _NAME.lower().encode("ascii")
_NAMED: Final = re.compile(_LOWER_NAME + rb"[\x00-\x20]*:", re.IGNORECASE)  # it may be folded before the colon
_HEADER_END: Final = re.compile(rb"\n\r?\n")
_FIELD_END: Final = re.compile(rb"\n(?![ \t])")
_PIECE: Final = 65_536
_LONGEST: Final = 65_536  # octets of a field that may be an honest one

_IGNORED: Final = re.compile(r"[\x00-\x20\x7f\\]+")  # folding, and what some readers skip
_WORD: Final = re.compile(r"""[^\x00-\x20\x7f()<>@,;:\\"/\[\]?=]+""")  # a token, or UTF-8 (RFC 6532)
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_PLAIN: Final = re.compile(r"""[^()<>@,;:\\"/\[\]?=]*""")
_COMMENT_PART: Final = re.compile(r"\\.|[()]", re.DOTALL)
_INNER_COMMENT: Final = re.compile(r"\([^()]*\)")
_HIDING: Final = re.compile(r"""[\x00-\x20\x7f\\"()]+""")
_ENDS_NAME: Final = frozenset({"", ";", "=", "/"})
_BETWEEN: Final = re.compile(r"(?:[\x00-\x20\x7f\\]+|\((?:[^()\\]|\\.)*\))+", re.DOTALL)  # Comments in one level, too.
_MOST_COMMENTS: Final = 64  # Comments in one another, or in a name.  No honest field has so many.
_MAX_WORDS: Final = 16  # Words of a name.  No honest one has more than a version after it.


def results_field(authserv_id: str, auth: Authenticated | None, tls: TLSInfo | None, *, utf8: bool = False) -> bytes:
    """Return the field, or ``b""`` if there was neither AUTH nor a client certificate."""
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
    """Return ``text`` as a value: a token, or quoted (RFC 2045, section 5.1; UTF-8 by RFC 6532)."""
    text = text[:_CLAIM]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "?" for c in text)
    if not utf8:
        text = text.encode("ascii", "replace").decode("ascii")
    if _TOKEN.fullmatch(text) or _MAILBOX.fullmatch(text):
        return text
    escaped = _SPECIAL.sub(r"\\\g<0>", text)
    return f'"{escaped}"'


def may_have_results(body: Body, headers: bytes) -> bool:
    """Return whether ``headers`` of ``body`` have Authentication-Results fields, or go on in its file."""
    if body.size > len(body.head) == len(headers):
        return True
    lower = headers.lower()
    return _LOWER_NAME in lower and _next_field(b"\n" + headers, b"\n" + lower, 1) >= 0


async def without_forged(body: Body, authserv_id: str, directory: Path | None) -> Body:
    """Return ``body`` without the Authentication-Results fields that bear ``authserv_id``: itself if there are none.

    If it is another one, the old one was closed.  Reads all of it: ask :func:`may_have_results` before.

    :raises SpoolError: if it cannot be read or written.
    """
    return await rewrite(body, partial(_copy, authserv_id), directory)


def _copy(authserv_id: str, source: BinaryIO, target: BinaryIO) -> bool:
    """Copy a message without the forged fields; return whether there were any.  Blocks."""
    header = _HeaderFilter(authserv_id, target)
    while not header.ended:
        piece = source.read(_PIECE)
        header.feed(piece, final=not piece)
    if header.removed:  # otherwise the copy is of no use
        shutil.copyfileobj(source, target, _PIECE)
    return header.removed


class _HeaderFilter:
    """Writes the header of a message, which comes in pieces, without the forged fields.

    Readers do not agree whether a lone CR ends a line, and a configuration may let it pass.  So a field begins behind
    a lone CR, too, but it ends only at an end that all of them see: at an LF that no blank follows.  The header ends
    at an empty line between LFs.
    """

    def __init__(self, authserv_id: str, target: BinaryIO) -> None:
        self.removed = False
        self.ended = False
        self._authserv_id = authserv_id
        self._write = target.write
        self._text = b"\n\n"  # Two octets before it (of what was written, or line ends), and what is not written.
        self._dropping = False  # The next octets belong to a forged field.
        self._line_end = b""  # The part of that field that stays: after a lone CR, the end of its line.

    def feed(self, piece: bytes, *, final: bool) -> None:
        """Take the next piece of the message; of what lies behind the header nothing is changed."""
        text = self._text + piece
        header_end = _HEADER_END.search(text, 1)
        limit = len(text) if header_end is None else header_end.start() + 1
        self.ended = final or header_end is not None
        lower, at = text[:limit].lower(), 2
        while at < limit:
            reached = self._drop(text, at, limit) if self._dropping else self._take(text, lower, at, limit)
            if reached == at:
                break
            at = reached
        if self.ended:
            self._write(text[at:])
        self._text = text[at - 2 :]

    def _take(self, text: bytes, lower: bytes, at: int, limit: int) -> int:
        """Write what is no field that may be forged, and judge one that is; return how far that got."""
        start = _next_field(text, lower, at)
        if start != at:
            # The end of what is there may be the beginning of the field's name.
            stop = start if start >= 0 else limit if self.ended else max(at, limit - len(_LOWER_NAME) - 1)
            self._write(text[at:stop])
            return stop
        following = _next_field(text, lower, at + 1)
        end = self._end_of_field(text, at, limit if following < 0 else following)
        if end < 0 and limit - at <= _LONGEST:
            return at  # more of it is needed
        whole = text[at : end if end >= 0 else limit]
        # No honest one is longer than that.
        if not (_NAMED.match(whole) if len(whole) > _LONGEST else is_forged(whole, self._authserv_id)):
            stop = end if end >= 0 else limit - len(_LOWER_NAME) - 1
            self._write(text[at:stop])
            return stop
        self.removed = self._dropping = True
        self._line_end = b""
        if text[at - 1 : at] == b"\r":
            # Without the blank, a line of CRs alone would become an empty one: the end of the header.
            self._line_end = b" \r\n" if text[at - 2 : at - 1] in {b"\r", b"\n"} else b"\n"
        return at + 1

    def _drop(self, text: bytes, at: int, limit: int) -> int:
        end = self._end_of_field(text, at, limit)
        if end < 0:
            return limit - text.endswith(b"\n")  # a blank may follow
        self._dropping = False
        if text[end - 1 : end] == b"\n":
            self._write(self._line_end)
        return end

    def _end_of_field(self, text: bytes, at: int, limit: int) -> int:
        """Return the end of the field that ``at`` is in, ``limit`` at most, or -1 if it is not known yet."""
        match = _FIELD_END.search(text, at, limit)
        end = limit if match is None else match.end()
        return end if end < len(text) or self.ended else -1


def _next_field(text: bytes, lower: bytes, at: int) -> int:
    """Return the offset of a line that begins with the field's name, or -1; ``lower`` is ``text`` in lower case."""
    at = lower.find(_LOWER_NAME, at)
    while at >= 0 and text[at - 1] not in b"\r\n":
        at = lower.find(_LOWER_NAME, at + 1)
    return at


def is_forged(whole: bytes, authserv_id: str) -> bool:
    """Return whether a field, from its name to its last line end, bears ``authserv_id`` for any reader.

    The name that it bears may be folded, in quotes, with comments in it, in U-labels, and with a version behind it
    (RFC 8601, section 2.2; RFC 5322, section 4.4).  A field that cannot be understood bears what it names anywhere.
    """
    field_name = _NAMED.match(whole)
    if field_name is None:
        return False
    value = whole[field_name.end() :].decode("utf-8", "surrogateescape")
    ours = _key(authserv_id) or authserv_id
    name = ""
    word, at = _next_word(value, 0)
    for _ in range(_MAX_WORDS):
        if word is None:
            break
        if not _PLAIN.fullmatch(word):
            return True  # no honest name hides a comment in quotes
        name += word
        # A comment may divide a name, and a version may follow it: so ask at each word.
        if _is_ours(name, ours):
            return True
        word, at = _next_word(value, at)
    if value.startswith("=?", at):
        return True  # an encoded word cannot be a part of it (RFC 2047, section 5), but some readers decode it
    if word is None and name and value[at : at + 1] in _ENDS_NAME:
        return not name.isascii() and _key(name) is None
    return _mentions(value, ours)


def _next_word(value: str, at: int) -> tuple[str | None, int]:
    """Return the next part of a name and where it ends, or None and where something else stands."""
    for _ in range(_MOST_COMMENTS):
        if match := _BETWEEN.match(value, at):
            at = match.end()
        elif value.startswith("(", at) and (end := _end_of_comment(value, at)) >= 0:
            at = end
        elif match := _WORD.match(value, at):
            return match[0], match.end()
        elif match := _QUOTED.match(value, at):
            return _IGNORED.sub("", _QUOTED_PAIR.sub(r"\1", match[1])), match.end()
        else:
            return None, at
    return "(", at


def _is_ours(name: str, ours: str) -> bool:
    """Compare a name with a key.  The key of a name is made only if it can be equal: a peer decides how often."""
    name = name.rstrip(".")
    if name.isascii():
        return len(name) == len(ours) and _key(name) == ours
    return "xn--" in ours and len(name) <= len(ours) and name.count(".") == ours.count(".") and _key(name) == ours


def _key(name: str) -> str | None:
    """Return a name in the form to compare; None if it is not ASCII and no domain."""
    name = name.rstrip(".")
    try:
        return domain_key(name)
    except DomainError:
        return name.lower() if name.isascii() else None


def _mentions(value: str, ours: str) -> bool:
    """Return whether ``ours`` stands anywhere in ``value``, with or without its comments."""
    if not value.isascii() or value.count("(") > _MOST_COMMENTS:
        return True
    parts, at = [], 0
    while (start := value.find("(", at)) >= 0:
        parts.append(value[at:start])
        at = _end_of_comment(value, start)
        if at < 0:
            break
    parts.append(value[at:] if at >= 0 else "")
    variants = value, "".join(parts), _INNER_COMMENT.sub("", value)
    return any(ours in _HIDING.sub("", variant).lower() for variant in variants)


def _end_of_comment(value: str, at: int) -> int:
    """Return the end of the comment that begins at ``at`` (RFC 5322, section 3.2.2), or -1 if it is no comment."""
    depth = 0
    for match in _COMMENT_PART.finditer(value, at):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if not depth:
            return match.end()
        if depth > _MOST_COMMENTS:
            break
    return -1
