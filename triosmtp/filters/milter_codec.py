"""Sendmail's milter protocol, version 6, without input or output: frames, commands of the mail server, answers.

A frame is a length of four octets, a code of one octet, and data.  The names of codes and flags are those of
``libmilter/mfdef.h``, without their prefixes.  All of it is the side of the mail server.
"""

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from enum import IntFlag
from typing import Final, TypeAlias

from attrs import frozen

__all__ = [
    "ACTIONS", "MAX_FRAME", "PROGRESS", "PROTOCOL", "VERSION", "Action", "AddHeader", "AddRecipient", "Answer",
    "ChangeHeader", "ChangeSender", "DeleteRecipient", "FrameReader", "InsertHeader", "MilterError", "NewBody",
    "Options", "Progress", "Protocol", "Quarantine", "Verdict", "encode_frame", "encode_macros", "encode_options",
    "parse_answer", "parse_options", "strings",
]  # fmt: skip

VERSION: Final = 6
MAX_FRAME: Final = 131_072
"""Octets of one frame of a milter; as in Postfix."""
MAX_SYMBOLS: Final = 64
"""Macros that a milter may request for one stage."""
_STAGES: Final = 7


_CLEAN: Final = re.compile("[\x00-\x1f\x7f]").sub


class Action(IntFlag):
    """The changes that a milter may request (SMFIF)."""

    ADDHDRS = 0x01
    CHGBODY = 0x02
    ADDRCPT = 0x04
    DELRCPT = 0x08
    CHGHDRS = 0x10
    QUARANTINE = 0x20
    CHGFROM = 0x40
    ADDRCPT_PAR = 0x80
    SETSYMLIST = 0x100


class Protocol(IntFlag):
    """The steps that a milter does not want, those that it does not answer, and extensions (SMFIP)."""

    NOCONNECT = 0x01
    NOHELO = 0x02
    NOMAIL = 0x04
    NORCPT = 0x08
    NOBODY = 0x10
    NOHDRS = 0x20
    NOEOH = 0x40
    NR_HDR = 0x80
    NOUNKNOWN = 0x100
    NODATA = 0x200
    SKIP = 0x400
    RCPT_REJ = 0x800
    NR_CONN = 0x1000
    NR_HELO = 0x2000
    NR_MAIL = 0x4000
    NR_RCPT = 0x8000
    NR_DATA = 0x10000
    NR_UNKN = 0x20000
    NR_EOH = 0x40000
    NR_BODY = 0x80000
    HDR_LEADSPC = 0x100000


ACTIONS: Final = Action(0x1FF)
PROTOCOL: Final = Protocol(0x1FFFFF)
"""All of them: both are offered."""


class MilterError(ValueError):
    """A frame that cannot be accepted; the text says why."""


@frozen(slots=True)
class Verdict:
    """An answer that ends a step.

    ``word`` is continue, accept, reject, tempfail, discard, skip, shutdown, conn_fail, or reply.  A reply has a reply
    code, an enhanced status code or ``""``, and a text of one line or several.
    """

    word: str
    code: int = 0
    enhanced: str = ""
    text: str = ""


class Progress:
    """The type of :data:`PROGRESS`."""


PROGRESS: Final = Progress()
"""The milter still works on the answer."""


@frozen(slots=True)
class AddHeader:
    """Add a field behind the last one."""

    name: bytes
    value: bytes


@frozen(slots=True)
class InsertHeader:
    """Insert a field that has ``index`` fields before it."""

    index: int
    name: bytes
    value: bytes


@frozen(slots=True)
class ChangeHeader:
    """Change the n-th field of this name, from 1; an empty value deletes it."""

    occurrence: int
    name: bytes
    value: bytes


@frozen(slots=True)
class NewBody:
    """A part of the new body."""

    data: bytes


@frozen(slots=True)
class ChangeSender:
    """Change the sender; ``path`` is with its ``<`` and ``>``."""

    path: bytes
    parameters: bytes


@frozen(slots=True)
class AddRecipient:
    """Add a recipient; ``extended`` is whether it is the form with parameters."""

    path: bytes
    parameters: bytes
    extended: bool


@frozen(slots=True)
class DeleteRecipient:
    """Delete a recipient."""

    path: bytes


@frozen(slots=True)
class Quarantine:
    """Keep the message for an operator."""

    reason: str


Change: TypeAlias = (
    AddHeader | InsertHeader | ChangeHeader | NewBody | ChangeSender | AddRecipient | DeleteRecipient | Quarantine
)
Answer: TypeAlias = Verdict | Progress | Change


@frozen(slots=True)
class Options:
    """The result of the negotiation."""

    version: int
    actions: Action
    protocol: Protocol
    symbols: Mapping[int, tuple[str, ...]]
    """The macros that the milter wants, by stage: 0 connect, 1 helo, 2 mail, 3 rcpt, 4 data, 5 end of message, 6 end of
    header.  A stage that is missing has the usual ones."""


# To the milter


def encode_frame(code: bytes, *parts: bytes) -> bytes:
    """Return a frame."""
    data = b"".join(parts)
    return struct.pack(">I", len(data) + 1) + code + data


def strings(*texts: str | bytes) -> bytes:
    """Return texts with a zero behind each.  A zero within is removed: it would begin another text."""
    octets = [each.encode("utf-8", "replace") if isinstance(each, str) else each for each in texts]
    return b"".join(each.replace(b"\0", b"") + b"\0" for each in octets)


def encode_options() -> bytes:
    """Return the frame that begins the negotiation."""
    return encode_frame(b"O", struct.pack(">III", VERSION, ACTIONS, PROTOCOL))


def encode_macros(code: bytes, macros: Iterable[tuple[str, str]]) -> bytes:
    """Return the frame with the macros of the command ``code``, which comes next.

    Control characters in values become ``?``: milters write values into logs and header fields.
    """
    return encode_frame(b"D", code, strings(*(_CLEAN("?", text) for pair in macros for text in pair)))


# From the milter


class FrameReader:
    """Divides what comes from a milter into frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def __bool__(self) -> bool:
        """Return whether a part of a frame has arrived."""
        return bool(self._data)

    def receive_data(self, data: bytes) -> None:
        """Take octets."""
        self._data += data

    def next_frame(self) -> tuple[bytes, bytes] | None:
        """Return the code and the data of the next frame that is complete.

        :raises MilterError: if it is empty or too long.
        """
        if len(self._data) < 4:
            return None
        (length,) = struct.unpack_from(">I", self._data)
        if not 0 < length <= MAX_FRAME:
            raise MilterError(f"a frame of {length} octets; 1 to {MAX_FRAME} are allowed")
        if len(self._data) < 4 + length:
            return None
        code, data = bytes(self._data[4:5]), bytes(self._data[5 : 4 + length])
        del self._data[: 4 + length]
        return code, data


def parse_options(data: bytes) -> Options:
    """Parse the milter's part of the negotiation.

    :raises MilterError: if it is malformed, or has what was not offered.
    """
    if len(data) < 12:
        raise MilterError("a negotiation that is too short")
    version, actions, protocol = struct.unpack_from(">III", data)
    if not 2 <= version <= VERSION:
        raise MilterError(f"version {version} of the protocol; 2 to {VERSION} are supported")
    if actions & ~int(ACTIONS) or protocol & ~int(PROTOCOL):
        raise MilterError(f"actions 0x{actions:x} or steps 0x{protocol:x} that were not offered")
    symbols, at = {}, 12
    while at < len(data):
        end = data.find(b"\0", at + 4)
        if end < 0:
            raise MilterError("a list of macros without its end")
        (stage,) = struct.unpack_from(">I", data, at)
        names = tuple(map(_braced, data[at + 4 : end].decode("ascii", "replace").replace(",", " ").split()))
        if stage >= _STAGES or len(names) > MAX_SYMBOLS:
            raise MilterError(f"{len(names)} macros for stage {stage}")
        symbols[stage] = names
        at = end + 1
    return Options(version, Action(actions), Protocol(protocol), symbols)


def _braced(name: str) -> str:
    """Return the name of a macro as libmilter looks it up: in braces, unless it is one character."""
    bare = name.strip("{}")
    return bare if len(bare) == 1 else f"{{{bare}}}"


_WORDS: Final = {
    b"c": "continue", b"a": "accept", b"r": "reject", b"t": "tempfail", b"d": "discard", b"s": "skip",
    b"4": "shutdown", b"f": "conn_fail",
}  # fmt: skip
_REPLY: Final = re.compile(
    r"([45][0-9][0-9])([ -]|$)(?:([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$))?(.*)", re.DOTALL
).fullmatch
_LINE_END: Final = re.compile(r"\r\n?|\n")
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
MAX_REPLY_LINES: Final = 32


def parse_answer(code: bytes, data: bytes) -> Answer:
    """Parse a frame of a milter.

    :raises MilterError: if the code is not known, or the data malformed.
    """
    word = _WORDS.get(code)
    if word is not None or code == b"p":
        if data:
            raise MilterError(f"the answer {code!r} with data")
        return PROGRESS if word is None else Verdict(word)
    parse = _PARSERS.get(code)
    if parse is None:
        raise MilterError(f"the answer {code!r} is not known")
    return parse(data)


def _texts(data: bytes, least: int, most: int) -> list[bytes]:
    *texts, rest = data.split(b"\0")
    if rest or not least <= len(texts) <= most:
        raise MilterError(f"an answer with {len(texts)} texts in place of {least}")
    return texts


def _indexed(data: bytes) -> tuple[int, bytes, bytes]:
    if len(data) < 4:
        raise MilterError("an answer without its index")
    name, value = _texts(data[4:], 2, 2)
    return struct.unpack_from(">I", data)[0], name, value


def _reply(data: bytes) -> Verdict:
    (octets,) = _texts(data, 1, 1)
    lines = _LINE_END.split(octets.decode("utf-8", "replace").rstrip("\r\n"))
    code, enhanced, texts = "", "", []
    if len(lines) > MAX_REPLY_LINES:
        raise MilterError(f"a reply of more than {MAX_REPLY_LINES} lines")
    for index, line in enumerate(lines):
        match = _REPLY(line)
        last = index == len(lines) - 1
        if match is None or match[1] != (code or match[1]) or (match[2] == "-") is last:
            raise MilterError(f"a malformed reply: {line[:100]!r}")
        code, enhanced = match[1], enhanced or match[3] or ""
        texts.append(_CONTROL.sub("?", match[4].replace("%%", "%")))
    if enhanced and enhanced[0] != code[0]:
        raise MilterError(f"a reply with the code {code} and the enhanced status code {enhanced}")
    return Verdict("reply", int(code), enhanced, "\n".join(texts))


def _change_header(data: bytes) -> ChangeHeader:
    occurrence, name, value = _indexed(data)
    return ChangeHeader(max(occurrence, 1), name, value)


def _change_sender(data: bytes) -> ChangeSender:
    path, *rest = _texts(data, 1, 2)
    return ChangeSender(path, b" ".join(rest))


def _add_recipient(data: bytes) -> AddRecipient:
    return AddRecipient(_texts(data, 1, 1)[0], b"", extended=False)


def _add_extended_recipient(data: bytes) -> AddRecipient:
    path, *rest = _texts(data, 1, 2)
    return AddRecipient(path, b" ".join(rest), extended=True)


def _quarantine(data: bytes) -> Quarantine:
    return Quarantine(_CONTROL.sub("?", _texts(data, 1, 1)[0].decode("utf-8", "replace")))


_PARSERS: Final[Mapping[bytes, Callable[[bytes], Answer]]] = {
    b"y": _reply,
    b"h": lambda data: AddHeader(*_texts(data, 2, 2)),
    b"i": lambda data: InsertHeader(*_indexed(data)),
    b"m": _change_header,
    b"b": NewBody,
    b"e": _change_sender,
    b"+": _add_recipient,
    b"2": _add_extended_recipient,
    b"-": lambda data: DeleteRecipient(_texts(data, 1, 1)[0]),
    b"q": _quarantine,
}
