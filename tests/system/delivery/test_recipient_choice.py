"""Policies of every kind that set ``deliver_to`` at data_spool_each_rcpt choose for that recipient."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from policyd_service import PolicydService, action, policyd_service
from scripted_hop import ScriptedHop, listening

import triosmtp
from triosmtp.event import MessageRefused, ServerEvent
from triosmtp.policy_client import PolicyClient, PolicyRequest
from triosmtp.testing import ScriptedClient

BODY = b"Subject: x\r\n\r\nbody\r\n"
UNKNOWN = "deliver_to = 'elsewhere': there is no such Delivery"

# One rule in three languages: what a recipient's name begins with says where its mail goes.
PYTHON = """
import triosmtp

class Choose(triosmtp.Policy):
    async def validate_data_spool_each_rcpt(self, session, message, recipient):
        word = recipient.address.local_part[:4]
        if word == "keep":
            session.message_variables["deliver_to"] = "kept"
        elif word == "else":
            session.message_variables["deliver_to"] = "elsewhere"
        elif word == "free":
            session.message_variables.pop("deliver_to", None)
"""
LUA = """
require("msys.core"); require("msys.extended.message"); local mod, MESS = {}, msys.core.ECMESS_CTX_MESS
function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  local word = string.sub(msg:rcptto(), 1, 4)
  if word == "keep" then msg:context_set(MESS, "deliver_to", "kept")
  elseif word == "else" then vctx:set(MESS, "deliver_to", "elsewhere")
  elseif word == "free" then msg:context_delete(MESS, "deliver_to") end
  return msys.core.VALIDATE_CONT
end
msys.registerModule("choose", mod)
"""
POLICY = {"python": "python:choice_by_name:Choose", "lua": "lua", "websocket": "websocket:choice"}
KINDS = tuple(POLICY)


async def choose(request: PolicyRequest) -> None:
    word = request.arguments["recipient"][:4]
    if word in {"keep", "else", "free"}:
        request.set_message(deliver_to={"keep": "kept", "else": "elsewhere", "free": None}[word])


class Site:
    def __init__(self, server: triosmtp.Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.events: list[ServerEvent] = []

    async def send(self, *names: str) -> list[str]:
        """Send one message; return the replies to RCPT that are no 250, and that to the end of data."""
        client = ScriptedClient(await trio.open_tcp_stream(*self.server.addresses["127.0.0.1:0"]))
        await client.read()
        await client.command("EHLO client.example.org")
        await client.command("MAIL FROM:<a@example.org>")
        replies = [await client.command(f"RCPT TO:<{name}@example.com>") for name in names]
        await client.command("DATA")
        await client.send(BODY + b".\r\n")
        last = str(await client.read())
        await client.command("QUIT")
        await client.aclose()
        return [*(str(reply) for reply in replies if reply.code != 250), last]

    def stored(self, name: str) -> list[list[str]]:
        """Return for each message of a Maildir the names of its recipients."""
        new = self.folder / name / "new"
        files = sorted(new.iterdir()) if new.is_dir() else []
        return [re.findall(r"^Delivered-To: (.*)@example\.com$", file.read_text(), re.MULTILINE) for file in files]


@asynccontextmanager
async def site(kind: str, folder: Path, options: str = "", before: str = "") -> AsyncIterator[Site]:
    """Serve with a policy that chooses; ``before`` is one that is asked before it."""
    (folder / "choice_by_name.py").write_text(PYTHON)
    (folder / "choose.lua").write_text(LUA)
    more = {
        "lua": 'scriptlet "scriptlet" { script "choose" { source = "choose" } }',
        "websocket": f'Policy_Listener {{ Listen "{folder}/policy" {{ }} }}',
    }
    usual = "" if "Deliver_To" in options.partition("Delivery ")[0] else f'Deliver_To = "maildir:{folder}/usual"'
    kept = "" if '"kept" {' in options else f'Delivery "kept" {{ Deliver_To = "maildir:{folder}/kept" }}'
    (folder / "t.conf").write_text(f"""
        Relay_Domains = ( "example.com" ) Policy = ( {before} "{POLICY[kind]}" )
        {usual} {options} {kept}
        {more.get(kind, "")}
        ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
    """)
    events: list[ServerEvent] = []
    async with trio.open_nursery() as nursery:
        serve = partial(triosmtp.serve, triosmtp.load_config(folder / "t.conf"), observers=[events.append])
        here = Site(await nursery.start(serve), folder)
        here.events = events
        if kind == "websocket":
            client = PolicyClient(f"unix:{folder}/policy", name="choice", group="choice")
            client.on("data_spool_each_rcpt")(choose)
            await nursery.start(client.run)
        yield here
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_recipients_with_one_choice_share_a_message(kind: str, tmp_path: Path) -> None:
    async with site(kind, tmp_path) as here:
        assert (await here.send("a", "keep1", "b", "keep2"))[0].startswith("250 ")
        assert (here.stored("usual"), here.stored("kept")) == ([["a", "b"]], [["keep1", "keep2"]])
        assert (await here.send("c"))[0].startswith("250 ")  # the choice went with its message
        assert (await here.send("keep3"))[0].startswith("250 ")
        assert (len(here.stored("usual")), len(here.stored("kept"))) == (2, 2)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_unknown_choice_for_one_recipient_delivers_to_none(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(kind, tmp_path) as here:
        assert await here.send("a", "else", "keep") == ["451 4.3.5 Server configuration error"]
        [refused] = [event for event in here.events if isinstance(event, MessageRefused)]
        assert (refused.decided_by, refused.reason) == ("delivery", UNKNOWN)
        assert UNKNOWN in caplog.text
        assert here.stored("usual") == here.stored("kept") == []


@pytest.fixture
def policyd() -> Iterator[PolicydService]:
    with policyd_service(action("HOLD for a look")) as service:
        yield service


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_filter_holds_is_held_for_all_but_those_for_whom_a_policy_chooses(
    kind: str, tmp_path: Path, policyd: PolicydService
) -> None:
    held = f'Delivery "held" {{ Deliver_To = "maildir:{tmp_path}/held" }}'
    scope = f'Filter "look" {{ Connect_To = "{policyd.address}" Hold_To = "held" }}'
    async with site(kind, tmp_path, f"{held} {scope}", '"filter:look"') as here:
        assert (await here.send("a", "free", "keep", "b"))[0].startswith("250 ")
        assert here.stored("held") == [["a", "b"]]
        assert (here.stored("usual"), here.stored("kept")) == ([["free"]], [["keep"]])


@pytest.mark.parametrize("kind", KINDS)
async def test_next_hops_have_the_recipients_that_are_theirs_and_a_retry_goes_to_the_rest(
    kind: str, tmp_path: Path
) -> None:
    usual, kept = ScriptedHop(lmtp=True), ScriptedHop(answers={"end": ["451 4.2.0 later", "250 2.0.0 Ok"]})
    async with listening(usual, tmp_path / "lmtp"), trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, kept.serve, 0, host="127.0.0.1"))
        options = f"""
            Deliver_To = ( "usual" "maildir:{tmp_path}/copy" )
            Delivery "usual" {{ Deliver_To = "lmtp:{tmp_path}/lmtp" }}
            Delivery "kept" {{ Deliver_To = "smtp://127.0.0.1:{listeners[0].socket.getsockname()[1]}" }}
        """
        async with site(kind, tmp_path, options) as here:
            assert await here.send("a", "keep", "b") == ["451 4.2.0 1 of 3 recipients are to be tried again: later"]
            assert here.stored("copy") == [["a", "b"]]
            assert (await here.send("a", "keep", "b"))[0].startswith("250 ")
        nursery.cancel_scope.cancel()
    assert [each.recipients for each in usual.messages] == [["a@example.com", "b@example.com"]]
    assert [each.recipients for each in kept.messages] == [["keep@example.com"]]
    asked = [command for command in usual.commands if command.startswith("RCPT TO:<keep@")]
    assert len(asked) == 2, "a recipient is asked for at its usual target, before policy has spoken"
    assert here.stored("copy") == [["a", "b"]]


REWRITE = """
import triosmtp

class Rewrite(triosmtp.Policy):
    async def validate_data_spool_each_rcpt(self, session, message, recipient):
        if recipient.address.local_part == "old":
            message.replace_recipient(recipient, triosmtp.Address("keep", "example.com"))
            message.edits_of(recipient).prepend("X-Was", "old")
"""


async def test_a_script_decides_about_the_address_that_another_policy_put_in_the_place_of_a_recipient(
    tmp_path: Path,
) -> None:
    (tmp_path / "rewriting.py").write_text(REWRITE)
    async with site("lua", tmp_path, before='"python:rewriting:Rewrite"') as here:
        assert (await here.send("a", "old"))[0].startswith("250 ")
        assert (here.stored("usual"), here.stored("kept")) == ([["a"]], [["keep"]])
        [file] = (tmp_path / "kept/new").iterdir()
        assert b"X-Was: old" in file.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
async def test_without_a_memory_for_the_retry_a_message_has_one_recipient(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("in the way")
    async with site(kind, tmp_path) as here:
        replies = await here.send("a", "keep", "b")
        assert [reply[:9] for reply in replies] == ["452 4.5.3", "452 4.5.3", "250 2.0.0"]
        assert (await here.send("keep"))[0].startswith("250 ")
        assert (here.stored("usual"), here.stored("kept")) == ([["a"]], [["keep"]])
    assert "recipients are not remembered" in caplog.text
