"""The client's side of one SMTP or LMTP connection, without I/O: commands in, octets out; octets in, replies out.

Replies come in the order of the commands (RFC 5321, section 4.3.2; pipelining: RFC 2920).  So a queue of the steps that
are still to be answered says what each reply is about.  A reply that answers nothing is an error, as it would be taken
for the answer to the next command.  The one exception is 421, by which a server may announce its end at any time.

In LMTP (RFC 2033) the end of the data has a reply for each recipient that was accepted, in the order of RCPT.

Three rules keep an attacker or a faulty server from shifting the two ends against each other:

- nothing may have arrived behind the 220 to STARTTLS (RFC 3207, section 6, and "STARTTLS command injection");
- what is said in plaintext is forgotten when TLS starts: the extensions are asked for again;
- after an error of the grammar no further reply is read.
"""

from collections import deque
from typing import Final

from triosmtp.smtp.client_command import bdat_command
from triosmtp.smtp.dot_stuffing import BodyEncoder
from triosmtp.smtp.extensions import NO_EXTENSIONS, Extensions
from triosmtp.smtp.reply_parser import MAX_REPLY_LINES, ReceivedReply, ReplyError, ReplyParser

__all__ = ["BANNER", "CLOSING", "END_OF_DATA", "ClientConnection"]

BANNER: Final = "banner"
"""The step that the first reply of a server answers."""
END_OF_DATA: Final = "end of data"
"""The step of the reply, or in LMTP the replies, to the message: after DATA or BDAT LAST."""
CLOSING: Final = "closing"
"""The step of a 421 that answers no command."""

_HELLO = {"EHLO", "LHLO", "HELO"}
_SERVICE_CLOSING = 421


class ClientConnection:
    """One connection as its client.  ``max_lines`` bounds the lines of one reply.

    :meth:`send` and the methods of the body return octets for the wire; :meth:`next_reply` returns replies.
    """

    def __init__(self, *, lmtp: bool = False, max_lines: int = MAX_REPLY_LINES) -> None:
        self.lmtp = lmtp
        self.extensions: Extensions = NO_EXTENSIONS
        """The extensions of the latest EHLO; none before."""
        self.accepted = 0
        """Recipients of the transaction that the server has accepted."""
        self._parser = ReplyParser(max_lines=max_lines)
        self._max_lines = max_lines
        self._pending: deque[str] = deque((BANNER,))
        self._body: BodyEncoder | None = None

    @property
    def outstanding(self) -> int:
        """How many replies are still to come."""
        return len(self._pending)

    @property
    def has_more(self) -> bool:
        """Whether octets have arrived that belong to no reply that was returned."""
        return self._parser.has_more

    @property
    def next_step(self) -> str:
        """The step that the next reply answers."""
        return self._pending[0] if self._pending else CLOSING

    @property
    def pipelining(self) -> bool:
        """Whether commands may be sent before the replies to earlier ones (RFC 2920)."""
        return "PIPELINING" in self.extensions

    def hello_verb(self) -> str:
        """Return the verb that asks this server for its extensions."""
        return "LHLO" if self.lmtp else "EHLO"

    def send(self, line: bytes) -> bytes:
        """Return the command ``line``, whose reply is still to come.

        :raises ValueError: if it is not one line that ends in CRLF.
        """
        if not line.endswith(b"\r\n") or line.count(b"\r") + line.count(b"\n") != 2:
            raise ValueError("a command is one line that ends in CRLF")
        self._pending.append(line[:-2].partition(b" ")[0].decode("ascii", "replace").upper())
        return line

    def send_response(self, line: bytes) -> bytes:
        """Return a line that answers a 334 of AUTH, whose reply is still to come."""
        self._pending.append("AUTH")
        return line

    def send_body(self, chunk: bytes) -> bytes:
        """Return octets of the message for the wire, after DATA was answered with 354."""
        self._body = self._body or BodyEncoder()
        return self._body.encode(chunk)

    def end_body(self) -> bytes:
        """Return the last octets of the message and the end of the data; the final replies are still to come."""
        body, self._body = self._body or BodyEncoder(), None
        self._expect_final_replies()
        return body.finish()

    def send_last_chunk(self, size: int) -> bytes:
        """Return BDAT for a whole message of ``size`` octets, which follow as they are (RFC 3030)."""
        self._expect_final_replies()
        return bdat_command(size, last=True)

    def _expect_final_replies(self) -> None:
        self._pending.extend((END_OF_DATA,) * (self.accepted if self.lmtp else 1))

    def receive_data(self, data: bytes | bytearray) -> None:
        """Take octets from the server."""
        self._parser.receive_data(data)

    def next_reply(self) -> tuple[str, ReceivedReply] | None:
        """Return the next reply with the step that it answers, a verb for example; None if more octets are needed.

        :raises ReplyError: if it is malformed, or answers nothing.
        """
        reply = self._parser.next_reply()
        if reply is None:
            return None
        if not self._pending:
            if reply.code == _SERVICE_CLOSING:
                return CLOSING, reply
            raise ReplyError(f"a reply to no command: {reply}")
        step = self._pending.popleft()
        self._apply(step, reply)
        return step, reply

    def _apply(self, step: str, reply: ReceivedReply) -> None:
        if step == "RCPT":
            self.accepted += reply.code < 300
        elif step in {"MAIL", "RSET", *_HELLO}:
            self.accepted = 0
            if step in _HELLO:
                self.extensions = Extensions.of(reply) if reply.code < 300 and step != "HELO" else NO_EXTENSIONS
        elif step == END_OF_DATA and END_OF_DATA not in self._pending:
            self.accepted = 0

    def start_tls(self) -> None:
        """Forget what was said in plaintext: TLS starts now, after the 220 to STARTTLS.

        :raises ReplyError: if the server sent more behind its 220.
        """
        if self._parser.has_more or self._pending:
            raise ReplyError("more octets behind the 220 to STARTTLS, in plaintext")
        self._parser = ReplyParser(max_lines=self._max_lines)
        self.extensions = NO_EXTENSIONS
