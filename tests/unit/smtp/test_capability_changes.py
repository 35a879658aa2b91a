"""Changes of the reply to EHLO: what is removed is refused, too."""

import pytest

from triosmtp.smtp import NEED_DATA, BadCommand, CapabilityChanges, Connection, ConnectionSettings
from triosmtp.smtp.capability_changes import MAX_ADDED_CAPABILITIES

SETTINGS = ConnectionSettings(
    hostname="mx.example", starttls=True, extensions=frozenset({"CHUNKING", "DSN"}), max_message_size=1000
)


class Dialogue:
    """A connection whose capabilities can be changed between two commands."""

    def __init__(self) -> None:
        self.connection = Connection(SETTINGS)
        self.connection.offer_auth(("PLAIN",))
        self.connection.accept()
        self.changes = CapabilityChanges()

    def change(self, changes: CapabilityChanges) -> None:
        self.connection.change_capabilities(changes.applied(SETTINGS))

    def say(self, line: bytes) -> bytes:
        self.connection.receive_data(line + b"\r\n")
        event = self.connection.next_event()
        assert event is not NEED_DATA
        return self.connection.send(event.reply) if isinstance(event, BadCommand) else self.connection.accept()

    def ehlo(self) -> list[bytes]:
        return [line[4:] for line in self.say(b"EHLO client.example").splitlines()][1:]


ALL = [b"PIPELINING", b"8BITMIME", b"SIZE 1000", b"SMTPUTF8", b"ENHANCEDSTATUSCODES", b"CHUNKING", b"DSN", b"STARTTLS",
       b"AUTH PLAIN"]  # fmt: skip


@pytest.mark.parametrize(
    ("keyword", "command", "code"),
    [
        ("STARTTLS", b"STARTTLS", b"502"),
        ("AUTH", b"AUTH PLAIN AGEAYg==", b"502"),
        ("CHUNKING", b"BDAT 0 LAST", b"502"),
        ("DSN", b"MAIL FROM:<a@example> RET=FULL", b"555"),
        ("SIZE", b"MAIL FROM:<a@example> SIZE=10", b"555"),
        ("8bitmime", b"MAIL FROM:<a@example> BODY=8BITMIME", b"555"),
        ("SMTPUTF8", b"MAIL FROM:<a@example> SMTPUTF8", b"555"),
    ],
)
def test_an_extension_that_is_removed_is_refused(keyword: str, command: bytes, code: bytes) -> None:
    dialogue = Dialogue()
    assert dialogue.ehlo() == ALL
    if b"BDAT" in command:
        dialogue.say(b"MAIL FROM:<a@example>")
        dialogue.say(b"RCPT TO:<b@example>")
    dialogue.change(CapabilityChanges().with_removed(keyword))
    assert dialogue.say(command)[:3] == code
    assert dialogue.ehlo() == [line for line in ALL if not line.startswith(keyword.upper().encode())]
    assert dialogue.say(b"MAIL FROM:<a@example>")[:3] == b"250"


def test_what_is_removed_is_offered_again_if_it_is_not_removed_any_more() -> None:
    dialogue = Dialogue()
    dialogue.change(CapabilityChanges().with_removed("SIZE"))
    assert b"SIZE 1000" not in dialogue.ehlo()
    dialogue.change(CapabilityChanges())
    assert b"SIZE 1000" in dialogue.ehlo()
    assert dialogue.say(b"MAIL FROM:<a@example> SIZE=10")[:3] == b"250"


def test_auth_stays_removed_after_a_handshake() -> None:
    dialogue = Dialogue()
    dialogue.ehlo()
    dialogue.change(CapabilityChanges().with_removed("AUTH"))
    dialogue.say(b"STARTTLS")
    dialogue.connection.next_event()
    dialogue.connection.tls_started()
    dialogue.connection.offer_auth(("PLAIN",))
    assert not any(line.startswith(b"AUTH") for line in dialogue.ehlo())


def test_lines_are_added_and_replaced() -> None:
    dialogue = Dialogue()
    changes = CapabilityChanges().with_added("X-OURS 1").with_added("x-ours 2").with_added("SIZE 5")
    dialogue.change(changes)
    assert dialogue.ehlo()[-2:] == [b"x-ours 2", b"SIZE 5"]
    assert b"SIZE 1000" not in dialogue.ehlo()
    dialogue.change(changes.with_removed("X-OURS"))
    assert b"x-ours 2" not in dialogue.ehlo()
    dialogue.change(changes.with_removed("X-OURS").with_added("X-OURS 3"))
    assert b"X-OURS 3" in dialogue.ehlo()


@pytest.mark.parametrize("line", ["", "X\r\n250 Y", "X  Y", "-X", "X " + "y" * 600, "é", "X_Y", "X "])
def test_a_text_that_is_no_line_of_the_reply_is_an_error(line: str) -> None:
    for change in (CapabilityChanges().with_added, CapabilityChanges().with_removed):
        with pytest.raises(ValueError, match="keyword of EHLO"):
            change(line)


def test_the_number_of_lines_is_bounded() -> None:
    changes = CapabilityChanges()
    for number in range(MAX_ADDED_CAPABILITIES):
        changes = changes.with_added(f"X-{number}")
    assert len(changes.with_added("X-1 again").added) == MAX_ADDED_CAPABILITIES
    with pytest.raises(ValueError, match="more than"):
        changes.with_added("X-MORE")
