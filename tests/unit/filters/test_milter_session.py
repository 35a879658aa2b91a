"""The dialogue with a milter, without input or output."""

import struct

import pytest
from milter_program import packet, strings

from triosmtp.filters import milter_session
from triosmtp.filters.milter_codec import (
    PROGRESS,
    Action,
    AddHeader,
    AddRecipient,
    MilterError,
    Progress,
    Protocol,
    Verdict,
)
from triosmtp.filters.milter_session import STEPS, USUAL_MACROS, MilterSession, Step


def begun(actions: int = 0x1FF, protocol: int = 0, version: int = 6, symbols: bytes = b"") -> MilterSession:
    session = MilterSession()
    assert session.negotiate()[4:5] == b"O"
    assert session.receive_data(packet(b"O" + struct.pack(">III", version, actions, protocol) + symbols)) == []
    return session


def no_macro(_name: str) -> None:
    return None


def asked(session: MilterSession, step: Step) -> MilterSession:
    assert session.begin(step, b"data", no_macro).endswith(packet(STEPS[step].code + b"data"))
    return session


@pytest.mark.parametrize("step", list(Step))
def test_each_step_is_a_command_with_its_macros(step: Step) -> None:
    session = begun()
    octets = session.begin(step, b"data", lambda name: f"<{name}>")
    rule = STEPS[step]
    names = () if rule.stage is None else USUAL_MACROS[rule.stage]
    pairs = strings(*(text for name in names for text in (name, f"<{name}>")))
    assert octets == packet(b"D" + rule.code + pairs) + packet(rule.code + b"data")
    assert session.awaits
    assert session.receive_data(packet(b"c")) == [Verdict("continue")]
    assert not session.awaits


@pytest.mark.parametrize("step", [each for each in Step if STEPS[each].unwanted])
def test_a_step_may_be_unwanted_or_without_an_answer(step: Step) -> None:
    assert begun().wants(step)
    assert not begun(protocol=STEPS[step].unwanted).wants(step)
    session = asked(begun(protocol=STEPS[step].silent), step)
    assert not session.awaits
    with pytest.raises(MilterError, match="without a question"):
        session.receive_data(packet(b"c"))


def test_an_older_milter_knows_fewer_steps() -> None:
    assert [begun(version=version).wants(Step.DATA) for version in (2, 3, 4, 6)] == [False, False, True, True]
    assert [begun(version=version).wants(Step.UNKNOWN) for version in (2, 3, 4, 6)] == [False, True, True, True]


def test_the_macros_are_those_that_the_milter_requests() -> None:
    session = begun(symbols=struct.pack(">I", 1) + strings("{verify} nothing j"))
    values = {"{verify}": "OK", "j": "mx", "{cipher}": "x"}
    expected = packet(b"DH" + strings("{verify}", "OK", "j", "mx")) + packet(b"H")
    assert session.begin(Step.HELO, b"", values.get) == expected


@pytest.mark.parametrize("step", list(Step))
def test_a_verdict_that_the_step_does_not_have_is_an_error(step: Step) -> None:
    codes = {"discard": b"d", "skip": b"s", "reject": b"r"}
    for word, code in codes.items():
        session = asked(begun(protocol=Protocol.SKIP), step)
        if word in STEPS[step].verdicts:
            assert session.receive_data(packet(code)) == [Verdict(word)]
        else:
            with pytest.raises(MilterError, match=f"{word} at the step {step.value}"):
                session.receive_data(packet(code))
    assert {step for step in Step if "skip" in STEPS[step].verdicts} == {Step.BODY}


def test_skip_must_be_negotiated() -> None:
    with pytest.raises(MilterError, match="skip"):
        asked(begun(), Step.BODY).receive_data(packet(b"s"))


CHANGES = {
    Action.ADDHDRS: b"h" + strings("X", "1"),
    Action.CHGBODY: b"bx",
    Action.ADDRCPT: b"+" + strings("<a@b>"),
    Action.DELRCPT: b"-" + strings("<a@b>"),
    Action.CHGHDRS: b"m\0\0\0\1" + strings("X", "1"),
    Action.QUARANTINE: b"q" + strings("why"),
    Action.CHGFROM: b"e" + strings("<a@b>"),
    Action.ADDRCPT_PAR: b"2" + strings("<a@b>", "NOTIFY=NEVER"),
}


@pytest.mark.parametrize("action", list(CHANGES))
def test_a_change_needs_its_action_and_comes_at_the_end_of_the_message(action: Action) -> None:
    change = packet(CHANGES[action])
    (found,) = asked(begun(actions=action), Step.END_OF_MESSAGE).receive_data(change)
    assert not isinstance(found, Verdict | Progress)
    with pytest.raises(MilterError, match=str(action.name)):
        asked(begun(actions=0x1FF & ~action), Step.END_OF_MESSAGE).receive_data(change)
    for step in set(Step) - {Step.END_OF_MESSAGE}:
        with pytest.raises(MilterError, match=f"at the step {step.value}"):
            asked(begun(), step).receive_data(change)


def test_inserting_needs_the_right_to_add_and_the_forms_of_a_recipient_are_two() -> None:
    insert = packet(b"i\0\0\0\0" + strings("X", "1"))
    assert asked(begun(actions=Action.ADDHDRS), Step.END_OF_MESSAGE).receive_data(insert)
    with pytest.raises(MilterError, match="ADDHDRS"):
        asked(begun(actions=Action.CHGHDRS), Step.END_OF_MESSAGE).receive_data(insert)
    with pytest.raises(MilterError, match="ADDRCPT_PAR"):
        asked(begun(actions=Action.ADDRCPT), Step.END_OF_MESSAGE).receive_data(packet(CHANGES[Action.ADDRCPT_PAR]))


def test_changes_and_progress_come_before_the_verdict_in_any_pieces() -> None:
    data = packet(b"p") + packet(CHANGES[Action.ADDHDRS]) + packet(CHANGES[Action.ADDRCPT]) + packet(b"a")
    session, found = asked(begun(), Step.END_OF_MESSAGE), []
    for octet in data:
        found += session.receive_data(bytes([octet]))
    assert found == [PROGRESS, AddHeader(b"X", b"1"), AddRecipient(b"<a@b>", b"", extended=False), Verdict("accept")]


@pytest.mark.parametrize("rest", [packet(b"c"), packet(CHANGES[Action.ADDHDRS]), packet(b"p"), b"\0", packet(b"c")[:5]])
def test_what_follows_the_verdict_is_an_error(rest: bytes) -> None:
    session = asked(begun(), Step.END_OF_MESSAGE)
    with pytest.raises(MilterError):
        session.receive_data(packet(b"c") + rest)


@pytest.mark.parametrize("data", [packet(b"c"), packet(b"O"), packet(b"O" + bytes(12)), struct.pack(">I", 0)])
def test_the_negotiation_must_be_first(data: bytes) -> None:
    session = MilterSession()
    session.negotiate()
    with pytest.raises(MilterError):
        session.receive_data(data)


def test_a_second_negotiation_is_an_error() -> None:
    with pytest.raises(MilterError):
        asked(begun(), Step.HELO).receive_data(packet(b"O" + struct.pack(">III", 6, 0, 0)))


def test_the_frames_of_one_answer_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milter_session, "MAX_ANSWERS", 5)
    session = asked(begun(), Step.CONNECT)
    session.receive_data(packet(b"p") * 4 + packet(b"c"))  # each step has a count of its own
    asked(session, Step.HELO)
    with pytest.raises(MilterError, match="more than 5 frames"):
        session.receive_data(packet(b"p") * 6)


def test_abort_and_quit_have_their_frames() -> None:
    session = begun()
    assert (session.abort(), session.quit(), session.quit(another=True)) == (packet(b"A"), packet(b"Q"), packet(b"K"))
    assert session.keeps_leading_space is session.wants_refused_recipients is False
    assert begun(protocol=Protocol.HDR_LEADSPC).keeps_leading_space
    assert begun(protocol=Protocol.RCPT_REJ).wants_refused_recipients
