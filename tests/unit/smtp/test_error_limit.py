"""No command, in no state, is answered for ever without a message: the session ends by 421 within a stated bound.

The commands come from the table itself.  One that is added to it is tried with no word of this file.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, TypeAlias

import pytest
from smtp_dialogue import ENVELOPE, Dialogue, codes

from triosmtp.smtp import (
    COMMANDS,
    NEED_DATA,
    AuthResponse,
    Bdat,
    BodyChunk,
    Connection,
    ConnectionEnded,
    ConnectionSettings,
    Event,
    MailFrom,
    ProtocolFailure,
    RcptTo,
    Reply,
    State,
    SwitchToTLS,
)
from triosmtp.smtp.command import TRUSTED_COMMANDS
from triosmtp.smtp.error_limit import MAX_PIPELINED_AFTER_REFUSAL

TIMES = 5000
RULES = ConnectionSettings(
    hostname="mx.example.org",
    starttls=True,
    require_hello=True,
    max_message_size=100,
    max_discarded_size=5000,
    extensions=frozenset({"CHUNKING", "BINARYMIME", "DSN", *(row.name for row in TRUSTED_COMMANDS.values())}),
)
BUDGET = RULES.max_command_errors + RULES.max_junk_commands
RECIPIENTS = 50
"""Messages that the driver of these tests accepts, and recipients that it refuses before it ends the session."""
GROUND = 8
"""Replies on the way to a state, and the one beyond each limit."""

LINES: dict[str, list[bytes]] = {
    "EHLO": [b"EHLO x", b"EHLO"],
    "HELO": [b"HELO x"],
    "AUTH": [b"AUTH PLAIN AGEAYg==", b"AUTH PLAIN\r\n*", b"AUTH PLAIN\r\nAGEAYg==", b"AUTH NONE", b"AUTH PLAIN !"],
    "MAIL": [b"MAIL FROM:<>", b"MAIL FROM:<", b"MAIL FROM:<>\r\nRSET", b"MAIL FROM:<>\r\nEHLO x"],
    "RCPT": [b"RCPT TO:<a@example.com>", b"RCPT TO:<", b"MAIL FROM:<>\r\nRCPT TO:<a@example.com>\r\nEHLO x"],
    "DATA": [b"DATA", b"DATA\r\n.", b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n."],
    "BDAT": [
        b"BDAT 0", b"BDAT 1\r\nx", b"BDAT 0 LAST", b"BDAT 1 LAST\r\nx", b"BDAT 101\r\n" + bytes(101), b"BDAT x",
        b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nBDAT 1\r\nx", b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nBDAT 0 LAST",
    ],
    "XCLIENT": [b"XCLIENT ADDR=192.0.2.1", b"XCLIENT", b"XCLIENT NAME=[UNAVAILABLE]"],
    "XREMOTEIP": [b"XREMOTEIP 192.0.2.1"],
    "XSETCONTEXT": [b"XSETCONTEXT a=b"],
}  # fmt: skip
NAMES = [row.name for row in (*COMMANDS.values(), *TRUSTED_COMMANDS.values())]
OTHERS = [b"", b" ", b"FOO", b"EXPN x", b"\xff", b"NO\0OP", b"NOOP ", b"x" * 3000, b"\xc3\xbc"]
PLACES = {
    "START": b"",
    "READY": b"EHLO x\r\n",
    "MAIL": b"EHLO x\r\nMAIL FROM:<>\r\n",
    "RCPT_REFUSED": b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<\r\n",
    "RCPT": b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n",
    "CHUNKS": b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nBDAT 1\r\nx",
    "AUTH": b"EHLO x\r\nAUTH LOGIN\r\n",
}
Answer: TypeAlias = Callable[[Event], tuple[Reply | None, bool]]
ANSWERS: dict[str, Answer] = {
    "taken": lambda _: (None, False),
    "refused": lambda _: (Reply(550, "No"), False),
    "refused for now": lambda _: (Reply(451, "Later"), False),
    "beyond a limit": lambda _: (Reply(450, "Later"), True),
    "454": lambda _: (Reply(454, "Later"), False),
}


def lines_of(name: str) -> list[bytes]:
    return LINES.get(name, [name.encode(), name.encode() + b" x", name.encode() + b" \xff"])


class Driver:
    """Answers a connection as a server does; counts the replies."""

    def __init__(self) -> None:
        self.connection = Connection(RULES)
        self.connection.send()
        self.connection.offer_auth(("PLAIN", "LOGIN"))
        self.codes: list[int] = []
        self.recipients = self.refused = 0

    def hears(self, data: bytes, answer: Answer = ANSWERS["taken"]) -> None:
        connection = self.connection
        if connection.closed or not data:
            return
        connection.receive_data(data)
        while (event := connection.next_event()) is not NEED_DATA and not isinstance(event, ConnectionEnded):
            if isinstance(event, SwitchToTLS):
                connection.tls_started()
                connection.offer_auth(("PLAIN", "LOGIN"))
            elif not isinstance(event, BodyChunk | Bdat):
                self.codes.append(int(self._reply(event, answer)[:3]))

    def _reply(self, event: Any, answer: Answer) -> bytes:
        if type(event).__name__ in {"BadCommand", "ProtocolFailure", "Quit"} or getattr(event, "error", None):
            return self.connection.send()
        reply, by_limit = answer(event)
        if isinstance(event, RcptTo):
            reply = self._recipient(reply)
        elif reply is None and (isinstance(event, AuthResponse) or getattr(event, "initial", b"") is not None):
            pass
        elif reply is None:
            reply = Reply(334, "")
        return self.connection.send(reply, by_limit=by_limit)

    def _recipient(self, reply: Reply | None) -> Reply | None:
        self.recipients += reply is None
        if reply is None and self.recipients > RECIPIENTS:
            reply = Reply(452, "Too many recipients")
        self.refused += reply is not None
        return Reply(421, "Too many refused recipients") if self.refused > RECIPIENTS else reply


def started(place: str, *, tls: bool) -> Driver:
    driver = Driver()
    if tls:
        driver.hears(b"STARTTLS\r\n")
    driver.hears(PLACES[place])
    assert driver.connection.state is State[place]
    return driver


def endings(driver: Driver, bound: int) -> Iterator[str]:
    """Yield what is wrong with how a session ended."""
    if not driver.connection.closed:
        yield f"goes on after {len(driver.codes)} replies"
    elif len(driver.codes) > bound:
        yield f"{len(driver.codes)} replies, not {bound}"
    elif driver.codes[-1] not in {421, 221, 501, 552, 554}:
        yield f"ends by {driver.codes[-1]}"


def replies_to(unit: bytes) -> int:
    return unit.count(b"\r\n") + 1


def trials() -> Iterator[tuple[str, bytes]]:
    units = [line for name in NAMES for line in lines_of(name)] + OTHERS
    yield from product(PLACES, units)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("treatment", ANSWERS)
def test_one_after_the_other(treatment: str, tls: bool) -> None:
    wrong = []
    for place, unit in trials():
        driver = started(place, tls=tls)
        for _ in range(TIMES):
            driver.hears(unit + b"\r\n", ANSWERS[treatment])
        # What is refused may be one line of several: the others of its group were in order.
        bound = BUDGET * replies_to(unit) + 2 * RECIPIENTS + RULES.max_message_size + GROUND
        wrong += [f"{unit[:60]!r} in {place}: {problem}" for problem in endings(driver, bound)]
    assert wrong == [] or _only_messages(wrong, treatment)


def _only_messages(wrong: list[str], treatment: str) -> bool:
    """Return whether only accepted messages continue a dialogue."""
    if treatment != "taken":
        return False
    return all("goes on" in each and ("DATA\\r\\n." in each or "LAST" in each) and "MAIL" in each for each in wrong)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("refused", [b"MAIL FROM:<\r\n", b"RCPT TO:<\r\n", b"BDAT 101\r\n" + bytes(101)])
def test_pipelined_behind_a_refusal(refused: bytes, tls: bool) -> None:
    wrong = []
    for place, unit in trials():
        for cut in (0, 1):  # each read ends with a line, or in the middle of one
            driver = started(place, tls=tls)
            octets = refused + (unit + b"\r\n") * TIMES
            if cut:
                driver.hears(octets[:cut])
            size = 32768
            for at in range(cut, len(octets), size):
                driver.hears(octets[at : at + size])
            bound = (
                (BUDGET + MAX_PIPELINED_AFTER_REFUSAL) * replies_to(unit)
                + 2 * RECIPIENTS
                + RULES.max_message_size
                + GROUND
            )
            wrong += [f"{unit[:60]!r} in {place}: {problem}" for problem in endings(driver, bound)]
    assert wrong == [] or _only_messages(wrong, "taken")


@pytest.mark.parametrize("unit", [b"MAIL FROM:<\r\nDATA\r\n", b"MAIL FROM:<>\r\nRCPT TO:<\r\nDATA\r\nRSET\r\n"])
def test_an_opener_does_not_reset_the_count_of_pipelined_commands(unit: bytes) -> None:
    driver = started("READY", tls=False)
    for _ in range(TIMES):
        driver.hears(unit)
    assert list(endings(driver, BUDGET * replies_to(unit))) == []


class TestErrorCounts:
    def test_the_error_beyond_it_is_fatal(self) -> None:
        dialogue = Dialogue(max_command_errors=3)
        assert dialogue.says(*["FOO"] * 5) == ["500 5.5.1 Command not recognized"] * 3 + ["421 4.7.0 Too many errors"]
        assert isinstance(dialogue.events[-1], ProtocolFailure)
        assert dialogue.connection.closed

    def test_none(self) -> None:
        assert codes(Dialogue(max_command_errors=0).says(*["FOO"] * 100)) == [500] * 100

    def test_an_accepted_message_renews_it(self) -> None:
        dialogue = Dialogue(max_command_errors=3)
        assert codes(dialogue.says(*["FOO"] * 3, *ENVELOPE, "DATA", ".", *["FOO"] * 4))[-4:] == [500, 500, 500, 421]

    def test_a_refused_message_does_not(self) -> None:
        dialogue = Dialogue(max_command_errors=3)
        dialogue.answers["BodyEnd"] = [Reply(554, "No")]
        assert codes(dialogue.says(*["FOO"] * 3, *ENVELOPE, "DATA", ".", "FOO"))[-1] == 421

    def test_commands_pipelined_behind_a_refusal_are_no_errors(self) -> None:
        dialogue = Dialogue(max_command_errors=30)
        dialogue.answers["MailFrom"] = [Reply(550, "No")] * 29
        dialogue.answers["RcptTo"] = [Reply(550, "No")] * 30
        for _ in range(29):  # a refused MAIL counts, what is behind it does not
            assert codes(dialogue.says(*ENVELOPE, "DATA")) == [550, 503, 503]
        for _ in range(30):  # how many recipients are refused is bounded by the driver
            assert codes(dialogue.says(*ENVELOPE, "DATA", "RSET")) == [250, 550, 554, 250]
        assert codes(dialogue.says("DATA", "DATA")) == [503, 421]

    @pytest.mark.parametrize("refused", ["MAIL FROM:<", "RCPT TO:<"])
    def test_commands_after_the_refusal_was_written_are_errors(self, refused: str) -> None:
        dialogue = Dialogue(max_command_errors=3)
        dialogue.says("MAIL FROM:<a@example.org>" if refused[0] == "R" else "NOOP")
        assert codes(dialogue.says(refused, *["DATA"] * 5))[1:] in ([503] * 5, [554] * 5)
        assert [codes(dialogue.says("DATA"))[0] for _ in range(3)] in ([503, 503, 421], [554, 554, 421])

    def test_a_pipelined_group_that_is_read_in_pieces_has_no_errors(self) -> None:
        dialogue = Dialogue(max_command_errors=1)
        dialogue.answers["MailFrom"] = [Reply(450, "Not now")]
        group = "".join(f"{line}\r\n" for line in [ENVELOPE[0], *["RCPT TO:<c@example.com>"] * 50, "DATA"]).encode()
        said = [code for at in range(0, len(group), 100) for code in codes(dialogue.says(group[at : at + 100]))]
        assert said == [450] + [503] * 51

    def test_pipelined_commands_without_error_are_bounded(self) -> None:
        dialogue = Dialogue(max_command_errors=3)
        said = codes(dialogue.says("MAIL FROM:<", *["DATA"] * 5000))
        assert said == [501] + [503] * (MAX_PIPELINED_AFTER_REFUSAL + 2) + [421]

    @pytest.mark.parametrize(
        ("event", "group"), [("MailFrom", ENVELOPE[:1]), ("Hello", ["EHLO x"]), ("Data", [*ENVELOPE, "DATA", "RSET"])]
    )
    def test_refusals_by_the_driver_count(self, event: str, group: list[str]) -> None:
        dialogue = Dialogue(max_command_errors=3)
        dialogue.answers[event] = [Reply(550, "No")] * 9
        said = [code for _ in range(9) for code in codes(dialogue.says(*group))]
        assert said.count(550) == 4  # each is answered with its own reply, and the command behind the last with 421
        assert said[-1] == 421
        assert isinstance(dialogue.events[-1], ProtocolFailure)

    def test_after_too_many_refusals_quit_is_answered(self) -> None:
        dialogue = Dialogue(max_command_errors=1)
        dialogue.answers["MailFrom"] = [Reply(550, "No")] * 2
        assert codes(dialogue.says(ENVELOPE[0], ENVELOPE[0], "QUIT")) == [550, 550, 221]

    def test_a_refusal_by_a_limit_is_junk(self) -> None:
        dialogue = Dialogue(max_command_errors=1, max_junk_commands=5)
        for _ in range(6):
            dialogue.connection.receive_data(b"MAIL FROM:<>\r\n")
            assert isinstance(dialogue.connection.next_event(), MailFrom)
            dialogue.connection.send(Reply(450, "Later"), by_limit=True)
        assert dialogue.says("NOOP") == ["421 4.7.0 Too many commands without a message"]

    def test_a_long_pipelined_group_has_no_errors(self) -> None:
        dialogue = Dialogue(max_command_errors=1)
        dialogue.answers["MailFrom"] = [Reply(550, "No")]
        assert codes(dialogue.says(*ENVELOPE, "DATA", "RCPT TO:<c@example.com>", "DATA", "DATA")) == [550] + [503] * 5

    def test_a_handshake_does_not_renew_it(self) -> None:
        dialogue = Dialogue(max_command_errors=2, starttls=True)
        assert codes(dialogue.says("FOO", "FOO", "STARTTLS")) == [500, 500, 220]
        assert codes(dialogue.says("FOO")) == [421]

    def test_a_hello_ends_the_pipelined_group(self) -> None:
        dialogue = Dialogue(max_command_errors=2)
        dialogue.answers["MailFrom"] = [Reply(550, "No")] * 2
        assert codes(dialogue.says(*ENVELOPE, "HELO x", "DATA", "DATA")) == [550, 503, 250, 503, 421]
