"""Changes of the envelope that filters request."""

from pathlib import Path

from filter_session import begun, conf
from policyd_service import Request, action, policyd_service

import triosmtp
from triosmtp.event import MessageAccepted
from triosmtp.filters.envelope_changes import MAX_ADDED
from triosmtp.testing import open_memory_server

BODY = b"Subject: x\r\n\r\nhello\r\n"


async def test_redirect_and_bcc_change_the_recipients_of_one_message() -> None:
    def answer(request: Request, _connection: object) -> str:
        words = dict(request)["recipient"].split("@")[0].split(".")
        return f"{words[0]} {words[1]}@example.com" if len(words) == 2 else "DUNNO"

    with policyd_service() as service:
        service.answer = lambda request, connection: action(answer(request, connection))(request, connection)
        async with open_memory_server(conf(service)) as server:
            client = await begun(server)
            for recipients in (["bcc.one", "plain", "bcc.two", "bcc.one"], ["bcc.one", "redirect.other"], ["plain"]):
                to = [f"{each}@example.com" for each in recipients]
                assert (await client.message("a@example.org", to, BODY)).code == 250
            found = [event.recipients for event in server.events if isinstance(event, MessageAccepted)]
    assert [[each.split("@")[0] for each in recipients] for recipients in found] == [
        ["bcc.one", "plain", "bcc.two", "bcc.one", "one", "two"],
        ["other"],
        ["plain"],
    ]


async def test_added_recipients_are_bounded() -> None:
    with policyd_service() as service:
        service.answer = lambda request, connection: action(f"BCC x{dict(request)['recipient']}")(request, connection)
        async with open_memory_server(conf(service)) as server:
            client = await begun(server)
            await client.command("MAIL FROM:<a@example.org>")
            codes = [(await client.command(f"RCPT TO:<u{n}@example.com>")).code for n in range(MAX_ADDED + 1)]
            assert codes == [250] * MAX_ADDED + [451]


WRITES = """
from triosmtp import DONE, Policy

class Writes(Policy):
    async def validate_rcptto(self, session, recipient, parameters):
        session.message_variables["filter_redirect"] = "me@elsewhere.example"

class Accepts(Policy):
    async def validate_data_spool(self, session, message):
        return DONE
"""


async def test_a_change_that_no_filter_made_is_judged_too(tmp_path: Path) -> None:
    (tmp_path / "writing.py").write_text(WRITES)
    with policyd_service("DUNNO") as service:
        text = conf(service).replace('"filter:x"', '"filter:x" "python:writing:Writes"', 1)
        async with open_memory_server(triosmtp.parse_config(text, folder=tmp_path)) as server:
            client = await begun(server)
            assert (await client.message("a@example.org", ["you@example.com"], BODY)).code == 451
            assert server.messages == []


async def test_another_policy_cannot_prevent_a_redirect(tmp_path: Path) -> None:
    (tmp_path / "writing.py").write_text(WRITES)
    with policyd_service("REDIRECT me@example.com") as service:
        text = conf(service).replace('"filter:x"', '"python:writing:Accepts" "filter:x"', 1)
        async with open_memory_server(triosmtp.parse_config(text, folder=tmp_path)) as server:
            client = await begun(server)
            assert (await client.message("a@example.org", ["you@example.com"], BODY)).code == 250
            accepted = next(event for event in server.events if isinstance(event, MessageAccepted))
            assert accepted.recipients == ("me@example.com",)
