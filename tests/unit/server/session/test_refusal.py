"""A refusal: its reply, who decided, and the event that reports it."""

from session_state import open_dialogue

from triosmtp import Reject
from triosmtp.event import Refused
from triosmtp.server.session.refusal import Refusal, emit_refused, refusal_of, text_of_reply
from triosmtp.smtp import Address, Reply


def test_a_reject_becomes_a_refusal_with_the_reason_for_the_log() -> None:
    refusal = refusal_of(Reject(550, "5.7.1", "Not today", reason="listed"), "python:A")
    assert (refusal.reply, refusal.decided_by, refusal.reason) == (
        Reply(550, "Not today", "5.7.1"),
        "python:A",
        "listed",
    )
    assert refusal_of(Reject(550, "5.7.1", "Not today"), "python:A").reason == "Not today"


def test_the_text_of_several_lines_is_one_line() -> None:
    assert text_of_reply(Reply(550, ("a", "b"))) == "a b"
    assert text_of_reply(Reply(550, "a")) == "a"


async def test_the_event_has_sender_and_recipients_of_the_transaction() -> None:
    async with open_dialogue("") as dialogue:
        state, refusal = dialogue.state, Refusal(Reply(554, "No", "5.0.0"), "python:A", "why")
        emit_refused(state.service, state.session, "connect", refusal)
        await dialogue.say("EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")
        emit_refused(state.service, state.session, "data", refusal)
        emit_refused(state.service, state.session, "command", refusal)
        emit_refused(state.service, state.session, "rcptto", refusal, Address("", ""), (Address("c", "example.com"),))
        found = [(e.sender, e.recipients) for e in dialogue.events if isinstance(e, Refused)]
        assert found == [
            (None, ()),
            ("a@example.org", ("b@example.com",)),
            ("a@example.org", ()),
            ("", ("c@example.com",)),
        ]
        last = dialogue.events[-1]
        assert isinstance(last, Refused)
        assert (last.code, last.enhanced, last.text, last.decided_by, last.reason) == (
            554,
            "5.0.0",
            "No",
            "python:A",
            "why",
        )
