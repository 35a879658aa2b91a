"""Makes the header fields that the server adds, so that no text of a peer can leave its line.

RFC 5321, section 4.4, defines the form of ``Received``; RFC 3848 and RFC 6531 the words after ``with``; RFC 8314 the
``tls`` clause.  Claims of a peer (its HELO name, the common name of its certificate) are cleaned and bounded in the
field, and quoted in a comment.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import add
from typing import TypeAlias

from triosmtp.variables import TLSInfo

__all__ = ["address_field", "field", "has_field", "received_field", "received_field_of", "received_start", "separator"]

_FOLD = 78  # Octets in a line without CRLF, if there is a space to fold at (RFC 5322, section 2.1.1).
_LIMIT = 998  # Octets in every line.
_ADDRESS = 900  # Octets of a recipient in Received: a longer one does not fit into a line, and cannot be folded.
_CLAIM = 255  # Characters of a claim of a peer: the longest domain name.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NOT_DOMAIN = re.compile(r"[^\w.:\[\]-]")
_PLAIN = re.compile(r"[!-~]+(?: [!-~]+)*").fullmatch
_LINES = re.compile(r"[^ ](?:.{0,75}[^ ])?(?= |$)|[^ ]+").findall  # Words for a line, behind its space; or a long one.
_COMMENT_SPECIAL = re.compile(r'[()\\"]')
_BEGINS_AS_HEADER = re.compile(rb"[!-9;-~]{1,998}[ \t]*:|>?From |\r?\n")
_COLON = re.compile(rb"[ \t]*:")  # The space is obsolete syntax, but still in use.

_DATE_SIZE = len("Thu, 01 Jan 1970 00:00:00 +0000")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# OpenSSL has its own names for suites before TLS 1.3; the tls clause has those of the IANA registry.
_KEY_EXCHANGES = {"ECDHE-ECDSA-": "ECDHE_ECDSA", "ECDHE-RSA-": "ECDHE_RSA", "DHE-RSA-": "DHE_RSA", "": "RSA"}
_ENCRYPTIONS = {
    "AES128-GCM-SHA256": "AES_128_GCM_SHA256",
    "AES256-GCM-SHA384": "AES_256_GCM_SHA384",
    "CHACHA20-POLY1305": "CHACHA20_POLY1305_SHA256",
    "AES128-CCM": "AES_128_CCM",
    "AES256-CCM": "AES_256_CCM",
    "AES128-CCM8": "AES_128_CCM_8",
    "AES256-CCM8": "AES_256_CCM_8",
    "AES128-SHA256": "AES_128_CBC_SHA256",
    "AES256-SHA256": "AES_256_CBC_SHA256",
    "AES256-SHA384": "AES_256_CBC_SHA384",
    "AES128-SHA": "AES_128_CBC_SHA",
    "AES256-SHA": "AES_256_CBC_SHA",
    "CAMELLIA128-SHA256": "CAMELLIA_128_CBC_SHA256",
    "CAMELLIA256-SHA256": "CAMELLIA_256_CBC_SHA256",
    "CAMELLIA256-SHA384": "CAMELLIA_256_CBC_SHA384",
}


def field(name: str, *clauses: str) -> bytes:
    """Build the header field ``name`` of ``clauses``, in UTF-8, with its CRLF.

    It is folded at 78 octets if possible: first between clauses, then at spaces within a clause.  No line is
    longer than 998 octets.  Control characters and line ends in ``clauses`` become ``?``; ``name`` is trusted.
    """
    start = f"{name}:"
    rest = _fold_plain(len(start), clauses)
    return _fold(name, clauses) if rest is None else f"{start}{rest}\r\n".encode("ascii")


def address_field(name: str, address: str) -> bytes:
    """Build the header field ``name`` of one address.  It is not folded, because that would change a long address."""
    return f"{name}: {_CONTROL.sub('?', address)}\r\n".encode("utf-8", "replace")


def _fold(name: str, clauses: tuple[str, ...]) -> bytes:
    lines: list[bytes] = []
    line = f"{name}:".encode("ascii")
    for clause in clauses:
        raw = _CONTROL.sub("?", clause).encode("utf-8", "replace")
        fits = len(line) + 1 + len(raw) <= _FOLD
        for i, word in enumerate((raw,) if fits else raw.split(b" ")):
            # A clause that does not fit begins a new line; no line may be blank (RFC 5322, section 3.2.2).
            if fits or (i > 0 and len(line) + 1 + len(word) <= _FOLD) or not word or not line.strip():
                line += b" " + word
            else:
                lines.append(line)
                line = b" " + word
            while len(line) > _LIMIT:
                end = _LIMIT
                while line[end] & 0xC0 == 0x80:  # not within a character
                    end -= 1
                lines.append(line[:end])
                line = b" " + line[end:]
    lines.append(line)
    return b"\r\n".join(lines) + b"\r\n"


def _fold_plain(column: int, clauses: Sequence[str]) -> str | None:
    """Fold ``clauses`` behind the first ``column`` characters of a line, as :func:`_fold` does.

    Return None in the rare case that they are not printable ASCII, have adjacent spaces, or have very long words.
    """
    if not _PLAIN(" ".join(clauses)):
        return None
    separators = _separators(column, tuple(map(len, clauses)))
    return _fold_words(column, clauses) if separators is None else "".join(map(add, separators, clauses))


@lru_cache(maxsize=256)
def _separators(column: int, sizes: tuple[int, ...]) -> tuple[str, ...] | None:
    """Return what stands before each clause, a space or a new line; None if a clause is empty or longer than a line."""
    found = []
    for size in sizes:
        if not 0 < size < _FOLD:
            return None
        fits = column + 1 + size <= _FOLD
        found.append(" " if fits else "\r\n ")
        column = (column if fits else 0) + 1 + size
    return tuple(found)


def _fold_words(column: int, clauses: Sequence[str]) -> str | None:
    text = ""
    for clause in clauses:
        if column + 1 + len(clause) <= _FOLD:
            text += f" {clause}"
            column += 1 + len(clause)
            continue
        if max(map(len, clause.split(" "))) >= _LIMIT:
            return None
        lines = _LINES(clause)
        text += "".join(f"\r\n {line}" for line in lines)
        column = 1 + len(lines[-1])
    return text


def received_field(
    *,
    helo: str | None,
    peer_address: str | None,
    by: str,
    id: str,  # noqa: A002 - the RFC's word
    moment: datetime,
    peer_name: str | None = None,
    extended: bool = True,
    smtputf8: bool = False,
    authenticated: bool = False,
    recipient: str | None = None,
    tls: TLSInfo | None = None,
) -> bytes:
    """Build a ``Received`` field (RFC 5321, section 4.4), folded, with its CRLF.

    ``helo`` is the name that the client gave, ``peer_address`` its IP address (None on a Unix socket), ``peer_name``
    the name that was looked up for it.  ``by`` is the host name of this server, ``moment`` an aware time.  ``extended``
    is True after EHLO, False after HELO; ``smtputf8`` is whether MAIL had SMTPUTF8.  ``recipient`` is set only if the
    message has exactly one: otherwise the field would reveal blind copies.

    :raises ValueError: if ``moment`` has no time zone.
    """
    start = received_start(
        helo=helo,
        peer_address=peer_address,
        by=by,
        peer_name=peer_name,
        extended=extended,
        smtputf8=smtputf8,
        authenticated=authenticated,
        tls=tls,
    )
    return received_field_of(start, id, moment, recipient)


ReceivedStart: TypeAlias = tuple[tuple[str, ...], str | None, int, str | None]
"""The part of ``Received`` that the messages of a session share: see :func:`_start`, and the suite of TLS."""


def received_start(
    *,
    helo: str | None,
    peer_address: str | None,
    by: str,
    peer_name: str | None = None,
    extended: bool = True,
    smtputf8: bool = False,
    authenticated: bool = False,
    tls: TLSInfo | None = None,
) -> ReceivedStart:
    """Return the part of ``Received`` that the messages of a session share, for :func:`received_field_of`.

    The arguments are those of :func:`received_field`.
    """
    claims = None if tls is None else _tls_claims(tls)
    suite = None if tls is None else _registered_name(tls.cipher)
    return *_start(helo, peer_name, peer_address, by, extended, smtputf8, authenticated, claims), suite


def received_field_of(start: ReceivedStart, id: str, moment: datetime, recipient: str | None) -> bytes:  # noqa: A002
    """Build the ``Received`` field of one message; the arguments are those of :func:`received_field`.

    :raises ValueError: if ``moment`` has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a trace field needs a time with its zone")
    _, text, column, suite = start
    date = _date(int(moment.timestamp()))
    # Nearly every field is made here.  _any_received_field() makes the same.
    if text is not None and _PLAIN(f"{id} {recipient}"):
        form = _rest_form(column, len(id), -1 if recipient is None else len(recipient), suite)
        if form is not None:
            rest = form % (id, date) if recipient is None else form % (id, recipient, date)
            return f"{text}{rest}".encode("ascii")
    return _any_received_field(start, id, date, recipient)


@lru_cache(maxsize=1024)
def _rest_form(column: int, id_size: int, recipient_size: int, suite: str | None) -> str | None:
    """Return the format of the rest of ``Received`` behind the first ``column`` characters of a line, or None.

    Its arguments are the id, the recipient if there is one, and the date.
    """
    if suite is not None and not _PLAIN(suite):
        return None
    clauses, sizes = ["id %s"], [3 + id_size]
    if recipient_size >= 0:
        clauses.append("for <%s>")
        sizes.append(6 + recipient_size)
    if suite is not None:
        clauses.append(f"tls {suite}".replace("%", "%%"))
        sizes.append(4 + len(suite))
    clauses[-1] += ";"
    sizes[-1] += 1
    separators = _separators(column, (*sizes, _DATE_SIZE))
    return None if separators is None else "".join(map(add, separators, (*clauses, "%s"))) + "\r\n"


def _any_received_field(start: ReceivedStart, id: str, date: str, recipient: str | None) -> bytes:  # noqa: A002
    first, text, column, suite = start
    clauses = [f"id {id}"]
    if recipient is not None and len(recipient.encode("utf-8", "replace")) <= _ADDRESS:
        clauses.append(f"for <{recipient}>")
    if suite is not None:
        clauses.append(f"tls {suite}")
    clauses[-1] += ";"
    clauses.append(date)
    rest = None if text is None else _fold_plain(column, clauses)
    return _fold("Received", (*first, *clauses)) if rest is None else f"{text}{rest}\r\n".encode("ascii")


_Claims: TypeAlias = tuple[str, str, int, int, str | None, bool, str | None, bool, str | None]


def _tls_claims(tls: TLSInfo) -> _Claims:
    """Return the values of TLS in the field, as a key of a cache: claims of the peer are cut as in the field."""
    name, reason = tls.client_subject_cn, tls.verify_error
    return (
        tls.protocol, tls.cipher, tls.cipher_usebits, tls.cipher_algbits, tls.group, tls.client_certificate is None,
        name and name[:_CLAIM], tls.verified, reason and reason[:_CLAIM],
    )  # fmt: skip


@lru_cache(maxsize=256)
def _start(
    helo: str | None, peer_name: str | None, peer_address: str | None, by: str, extended: bool, utf8: bool,
    authenticated: bool, tls: _Claims | None,
) -> tuple[tuple[str, ...], str | None, int]:  # fmt: skip
    """Return the first clauses of ``Received``, which the messages of a session share: as they are, and folded.

    The folded text is None if :func:`_fold` must fold it; the number is the length of its last line.
    """
    comments = () if tls is None else _tls_comments(*tls, utf8=utf8)
    origin = _origin(helo, peer_name, peer_address, utf8=utf8)
    clauses = (origin, *comments, f"by {by}", f"with {_protocol(extended, utf8, tls is not None, authenticated)}")
    name = "Received:"
    rest = _fold_plain(len(name), clauses)
    text = None if rest is None else name + rest
    return clauses, text, 0 if text is None else len(text) - text.rfind("\n") - 1


def has_field(headers: bytes, name: bytes) -> bool:
    """Return whether the header section ``headers`` has a field ``name``, ignoring case (RFC 5322, section 2.2)."""
    text = b"\n" + headers.lower()
    start = b"\n" + name.lower()
    at = text.find(start)
    while at >= 0:
        if _COLON.match(text, at + len(start)):
            return True
        at = text.find(start, at + 1)
    return False


def separator(head: bytes) -> bytes:
    """Return what must follow the added fields before a body that begins with ``head``: nothing, or an empty line.

    Without it, a body that does not begin with a field would become part of the header.  One that begins with a space
    would even continue the last added field with text of the peer.
    """
    return b"" if _BEGINS_AS_HEADER.match(head) else b"\r\n"


def _origin(helo: str | None, peer_name: str | None, peer_address: str | None, *, utf8: bool) -> str:
    literal = _address_literal(peer_address)
    name = _domain(helo, utf8=utf8) or literal or "unknown"
    info = " ".join(part for part in (_domain(peer_name, utf8=utf8), literal) if part)
    return f"from {name}" + (f" ({info})" if info else "")


def _protocol(extended: bool, smtputf8: bool, tls: bool, authenticated: bool) -> str:
    """Return the word after ``with`` (RFC 3848, section 2; RFC 6531, section 4.3): after HELO it is always SMTP."""
    if not extended:
        return "SMTP"
    return ("UTF8SMTP" if smtputf8 else "ESMTP") + ("S" if tls else "") + ("A" if authenticated else "")


def _tls_comments(
    protocol: str, cipher: str, used_bits: int, bits: int, group: str | None, anonymous: bool, common_name: str | None,
    verified: bool, verify_error: str | None, *, utf8: bool,
) -> tuple[str, str]:  # fmt: skip
    names = f"(using {_comment(protocol, utf8=False)} with cipher {_comment(cipher, utf8=False)}"
    key_exchange = f", group {_comment(group, utf8=False)}" if group else ""
    session = f"{names} ({used_bits}/{bits} bits){key_exchange})"
    if anonymous:
        return session, "(no client certificate)"
    name = f' CN "{_comment(common_name, utf8=utf8)}"' if common_name else ""
    if verified:
        return session, f"(client certificate{name} verified)"
    reason = f": {_comment(verify_error, utf8=utf8)}" if verify_error else ""
    return session, f"(client certificate{name} not verified{reason})"


def _comment(text: str, *, utf8: bool) -> str:
    """Return ``text`` as a part of a comment (RFC 5322, section 3.2.2; UTF-8 by RFC 6532)."""
    text = text[:_CLAIM]
    if not utf8 and not text.isascii():
        text = text.encode("ascii", "replace").decode("ascii")
    return _COMMENT_SPECIAL.sub(r"\\\g<0>", text)


def _domain(text: str | None, *, utf8: bool) -> str:
    """Return a claimed name with only the characters of a domain or an address literal."""
    if not text:
        return ""
    text = _NOT_DOMAIN.sub("?", text[:_CLAIM])
    return text if utf8 or text.isascii() else text.encode("ascii", "replace").decode("ascii")


def _address_literal(address: str | None) -> str:
    """Return an address literal (RFC 5321, section 4.1.3), without a zone (``%eth0``), which is local."""
    if not address:
        return ""
    address = _NOT_DOMAIN.sub("?", address.partition("%")[0])
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


@lru_cache(maxsize=4)
def _date(second: int) -> str:
    """Return a time as RFC 5322, section 3.3, has it.  strftime is no help: it uses the language of the locale."""
    m = datetime.fromtimestamp(second, UTC)
    return (
        f"{_DAYS[m.weekday()]}, {m.day:02d} {_MONTHS[m.month - 1]} {m.year}"
        f" {m.hour:02d}:{m.minute:02d}:{m.second:02d} +0000"
    )


@lru_cache(maxsize=256)
def _registered_name(cipher: str) -> str | None:
    """Return the IANA name of OpenSSL's ``cipher``, or None if it is not in the table."""
    if cipher.startswith("TLS_"):
        return cipher
    for prefix, key_exchange in _KEY_EXCHANGES.items():
        encryption = _ENCRYPTIONS.get(cipher.removeprefix(prefix))
        if cipher.startswith(prefix) and encryption is not None:
            return f"TLS_{key_exchange}_WITH_{encryption}"
    return None
