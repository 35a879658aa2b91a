"""A scripted SMTP client over any Trio stream: says exactly what a test tells it to, right or wrong."""

import ssl
from typing import Any, Final

import trio
from attrs import frozen

from triosmtp.smtp import BodyEncoder, ReplyParser

__all__ = ["Answer", "ScriptedClient"]

_MAX_LINES: Final = 100_000  # a dump of contexts is long


@frozen(slots=True)
class Answer:
    """One reply as the client read it: the code, and the text of each line without the code."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The lines, joined by a line feed."""
        return "\n".join(self.lines)

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class ScriptedClient:
    """An SMTP client for tests.  ``stream`` is the stream it speaks over: plain, or TLS after :meth:`starttls`."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream: trio.abc.Stream = stream
        self._parser = ReplyParser(max_lines=_MAX_LINES)

    async def send(self, data: bytes) -> None:
        """Send ``data`` as it is."""
        await self.stream.send_all(data)

    async def read(self) -> Answer:
        """Read one reply.

        :raises EOFError: if the server has closed the connection instead.
        :raises triosmtp.smtp.ReplyError: if it is not a reply.
        """
        while (reply := self._parser.next_reply()) is None:
            data = await self.stream.receive_some(65536)
            if not data:
                raise EOFError("the server closed the connection")
            self._parser.receive_data(data)
        return Answer(reply.code, reply.lines)

    async def read_eof(self) -> bytes:
        """Read until the server closes; return what came before."""
        data = self._parser.take_rest()
        try:
            while chunk := await self.stream.receive_some(65536):
                data += bytes(chunk)
        except trio.BrokenResourceError:
            pass  # gone without a goodbye is gone all the same
        return data

    async def command(self, line: str) -> Answer:
        """Send one command line and read its reply."""
        await self.send(line.encode("utf-8") + b"\r\n")
        return await self.read()

    async def starttls(self, context: ssl.SSLContext, server_hostname: str = "localhost") -> Answer:
        """Send STARTTLS; on 220 do the handshake.  Return the reply.

        :raises trio.BrokenResourceError: if the handshake fails.
        """
        answer = await self.command("STARTTLS")
        if answer.code == 220:
            await self.handshake(context, server_hostname)
        return answer

    async def handshake(self, context: ssl.SSLContext, server_hostname: str = "localhost") -> None:
        """Run the TLS handshake now."""
        tls: trio.SSLStream[Any] = trio.SSLStream(
            self.stream, context, server_hostname=server_hostname, https_compatible=True
        )
        await tls.do_handshake()
        self.stream = tls

    async def message(self, sender: str, recipients: list[str], body: bytes) -> Answer:
        """Send one message, command by command; return the last reply: the final one, or the first refusal."""
        commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA"]
        for line in commands:
            answer = await self.command(line)
            if answer.code >= 400:
                return answer
        encoder = BodyEncoder(canonical=False)
        await self.send(encoder.encode(body) + encoder.finish())
        return await self.read()

    async def aclose(self) -> None:
        """Close the stream at once."""
        await trio.aclose_forcefully(self.stream)
