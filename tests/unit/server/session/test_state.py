"""The state of a session: what each step forgets, and what it keeps."""

from collections.abc import Mapping

from session_state import open_dialogue

from triosmtp import Policy, Reject, Session
from triosmtp.event import Disconnected
from triosmtp.policy import Authenticated
from triosmtp.server.session.handlers import end_of_dialogue
from triosmtp.server.session.state import SessionEnd
from triosmtp.smtp import Address, ConnectionEnded, Noop, ProtocolFailure, Quit
from triosmtp.status.metric_label import ENDS
from triosmtp.variables import POSTFIX_ALIASES, TLSInfo

TLS = TLSInfo(protocol="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256", cipher_algbits=128, cipher_usebits=128)
UNLIMITED = "Max_Recipients_Per_Message = 0 Max_Recipients_Per_Connection = 0"


async def test_forget_plaintext_keeps_what_was_known_at_connect_and_the_counts() -> None:
    async with open_dialogue('Context = [ tenant = "a" ]') as dialogue:
        state, session = dialogue.state, dialogue.state.session
        session.connection_tls = TLS
        state.remember_beginning()
        await dialogue.say("EHLO client", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")
        session.variables.update({"tenant": "changed", "more": "x"})
        session.auth = Authenticated("PLAIN", "joe")
        session.headers.append(("X-Later", "1"))
        state.forget_plaintext()
        assert session.variables.snapshot() == {"tenant": "a", "connection_rcpt_count": "1"}
        assert not session.headers
        assert [session.auth, state.hello, state.transaction] == [None] * 3


async def test_forget_handshake_keeps_rights_that_do_not_come_from_the_certificate() -> None:
    async with open_dialogue("") as dialogue:
        state, variables = dialogue.state, dialogue.state.session.variables
        variables.record({"tls": "1", "tls_cipher": "x", "can_relay": "true", **dict.fromkeys(POSTFIX_ALIASES, "x")})
        state.session.auth = Authenticated("EXTERNAL", "joe")
        variables.record({"auth_user": "joe"})
        state.forget_handshake()
        assert not {"auth_user", "tls_cipher", "can_relay", *POSTFIX_ALIASES} & set(variables)
        state.session.auth = Authenticated("PLAIN", "joe")
        state.forget_handshake()
        assert variables["can_relay"] == "true"


async def test_the_right_to_relay_of_a_peer_outlasts_a_renegotiation() -> None:
    async with open_dialogue('Relay_Hosts = ( "192.0.2.0/24" )') as dialogue:
        dialogue.state.session.connection_tls = TLS
        dialogue.state.remember_beginning()
        dialogue.state.forget_handshake()
        assert dialogue.state.session.variables["can_relay"] == "true"


async def test_nothing_known_of_the_former_peer_remains() -> None:
    async with open_dialogue('Relay_Hosts = ( "192.0.2.0/24" )') as dialogue:
        state = dialogue.state
        state.session.connection_tls = TLS
        state.remember_beginning()
        state.session.variables.forget("can_relay")
        state.session.connection_tls = None
        state.remember_beginning()
        state.forget_handshake()
        assert "can_relay" not in state.session.variables


async def test_end_transaction_takes_back_a_right_of_the_sender_alone() -> None:
    async with open_dialogue('Relay_For_Sending_Domains = ( "example.org" )') as dialogue:
        state = dialogue.state
        assert [reply[:3] for reply in await dialogue.say("MAIL FROM:<a@example.org>", "RCPT TO:<b@else.net>")] == [
            "250",
            "250",
        ]
        assert state.session.variables["can_relay"] == "true"
        assert state.session.in_transaction
        await dialogue.say("RSET")
        assert "can_relay" not in state.session.variables
        left = state.session.in_transaction, state.granted_relay, state.session.message_variables.snapshot()
        assert left == (False, False, {})
        [_, refused] = await dialogue.say("MAIL FROM:<a@example.net>", "RCPT TO:<b@else.net>")
        assert refused.startswith("550 5.7.1")


class Labels(Policy):
    """Adds a header field at MAIL, and refuses one sender."""

    async def validate_mailfrom(self, session: Session, sender: Address, parameters: Mapping[str, str | None]) -> None:
        session.add_header("X-Sender", str(sender))
        if sender.local_part == "bad":
            raise Reject(550, "5.7.1", "no")


async def test_a_header_field_that_was_added_at_a_refused_mail_is_not_the_next_ones() -> None:
    async with open_dialogue("", policy=Labels()) as dialogue:
        session = dialogue.state.session
        replies = await dialogue.say("EHLO x", "MAIL FROM:<bad@example.org>", "MAIL FROM:<a@example.org>")
        assert [reply[:3] for reply in replies[1:]] == ["550", "250"]
        assert (session.headers, session.message_headers) == ([], [("X-Sender", "a@example.org")])
        await dialogue.say("RSET")
        assert (session.headers, session.message_headers) == ([], [])


async def test_a_discard_is_about_the_current_message_or_all_later_ones() -> None:
    async with open_dialogue("") as dialogue:
        state = dialogue.state
        await dialogue.say("MAIL FROM:<a@example.org>")
        state.discard("python:A", "rcptto")
        assert (state.transaction is not None and state.transaction.discarded_by, state.discarded_by) == (
            "python:A",
            "",
        )
        await dialogue.say("RSET")
        state.discard("python:B", "ehlo")
        await dialogue.say("MAIL FROM:<a@example.org>")
        assert (state.transaction is not None and state.transaction.discarded_by) == "python:B"


async def test_switch_profile_replaces_the_restrictions_and_asks_for_attention() -> None:
    async with open_dialogue(f'{UNLIMITED} Peer "198.51.100.1" {{ Max_Recipients_Per_Message = 1 }}') as dialogue:
        state = dialogue.state
        settings = state.generation.config.resolve(state.listen, None)
        assert state.profile.settings.max_recipients_per_message == settings.max_recipients_per_message
        before = state.restrictions
        state.attention = False
        other = next(
            state.generation.profiles.of(state.listen, each)
            for each in state.generation.config.variants(state.listen)
            if each.max_recipients_per_message == 1
        )
        state.switch_profile(other)
        assert state.profile is other
        assert state.attention
        assert len(state.restrictions["rcptto"].checks) == len(before["rcptto"].checks) + 1


async def test_the_end_follows_from_the_last_event() -> None:
    async with open_dialogue("") as dialogue:
        state = dialogue.state
        found = [end_of_dialogue(state, each) for each in (Quit, ProtocolFailure, ConnectionEnded, Noop, None)]
        assert found == ["quit", "protocol_error", "peer_closed", "refused", "refused"]
        state.was_outdated = True
        assert end_of_dialogue(state, Noop) is SessionEnd.RECONFIGURED


def test_every_end_is_documented_and_a_label_of_the_metrics() -> None:
    for end in SessionEnd:
        assert end.value in (Disconnected.__doc__ or "").replace(",", " ").replace(".", " ").split()
        assert end.value in ENDS
