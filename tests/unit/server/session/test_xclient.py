"""XCLIENT, XREMOTEIP and the contexts: what a trusted peer changes, and which rights stay its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from session_state import Dialogue, open_dialogue

from triosmtp.event import PeerAnnounced
from triosmtp.smtp import TRUSTED_EXTENSIONS

COMMANDS = 'SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "XCLIENT" "XREMOTEIP" "XDUMPCONTEXT" "XSETCONTEXT" )'
TRUSTING = f'Peer "192.0.2.1" {{ {COMMANDS} }} Peer "198.51.100.1" {{ Max_Recipients_Per_Message = 7 }}'


@asynccontextmanager
async def trusting() -> AsyncIterator[Dialogue]:
    async with open_dialogue(TRUSTING) as dialogue:
        await dialogue.say("EHLO proxy")
        yield dialogue


async def test_the_announced_client_has_its_own_profile_and_the_peer_its_rights() -> None:
    async with trusting() as dialogue:
        state = dialogue.state
        [banner] = await dialogue.say("XCLIENT ADDR=198.51.100.1 PORT=99 NAME=mail.example.org")
        assert banner.startswith("220 ")
        assert state.profile.settings.max_recipients_per_message == 7
        assert state.profile.rules.extensions & TRUSTED_EXTENSIONS == {
            "XCLIENT",
            "XREMOTEIP",
            "XDUMPCONTEXT",
            "XSETCONTEXT",
        }
        assert (state.session.peer, state.session.is_proxied, state.hello) == ("198.51.100.1:99", True, None)
        variables = state.session.variables
        assert (variables["real_peer"], variables["xclient_name"]) == ("192.0.2.1:1024", "mail.example.org")
        assert state.attention


async def test_the_real_peer_stays_that_of_the_connection() -> None:
    async with trusting() as dialogue:
        await dialogue.say("XCLIENT ADDR=198.51.100.1", "EHLO x", "XCLIENT ADDR=198.51.100.2", "EHLO x")
        events = [event for event in dialogue.events if isinstance(event, PeerAnnounced)]
        assert [(e.session.peer, e.real_peer) for e in events] == [
            ("198.51.100.1:0", "192.0.2.1:1024"),
            ("198.51.100.2:0", "192.0.2.1:1024"),
        ]


async def test_xremoteip_keeps_the_hello() -> None:
    async with trusting() as dialogue:
        state = dialogue.state
        [reply] = await dialogue.say("XREMOTEIP 198.51.100.1")
        assert reply.startswith("250 ")
        assert state.hello is not None
        assert state.session.variables["ehlo_domain"] == "proxy"


@pytest.mark.parametrize("name", ["tls_verified", "real_peer", "proxy_source", "xclient_name"])
async def test_a_variable_of_the_server_cannot_be_set(name: str) -> None:
    async with trusting() as dialogue:
        [reply] = await dialogue.say(f"XSETCONTEXT {name}=x")
        assert reply[0] == "5"
        assert name not in dialogue.state.session.variables


async def test_contexts_are_shown_without_control_characters() -> None:
    async with trusting() as dialogue:
        dialogue.state.session.variables["note"] = "a\r\n221 b"
        [reply] = await dialogue.say("XDUMPCONTEXT")
        assert "[connection] note a??221 b" in reply
