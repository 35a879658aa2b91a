"""A second version of the table of commands, and dialogues in each of its states."""

from smtp_dialogue import Dialogue

from triosmtp.smtp import PAUSED, Bdat, BodyChunk, Reply, State

LINES = {
    "EHLO": "EHLO x",
    "HELO": "HELO x",
    "STARTTLS": "STARTTLS",
    "AUTH": "AUTH PLAIN AGEAYg==",
    "MAIL": "MAIL FROM:<>",
    "RCPT": "RCPT TO:<postmaster>",
    "DATA": "DATA",
    "BDAT": "BDAT 1\r\nx",
    "RSET": "RSET",
    "NOOP": "NOOP",
    "VRFY": "VRFY x",
    "HELP": "HELP",
    "QUIT": "QUIT",
}
#       START      READY       MAIL        RCPT_REFUSED    RCPT       CHUNKS
AFTER = {
    "EHLO": "READY READY READY READY READY READY",
    "HELO": "READY READY READY READY READY READY",
    "STARTTLS": "SWITCHING SWITCHING SWITCHING SWITCHING SWITCHING SWITCHING",
    "AUTH": "- READY - - - -",
    "MAIL": "- MAIL - - - -",
    "RCPT": "- - RCPT RCPT RCPT -",
    "DATA": "- - - - BODY -",
    "BDAT": "- - - - CHUNKS CHUNKS",
    "RSET": "START READY READY READY READY READY",
    "NOOP": "START READY MAIL RCPT_REFUSED RCPT CHUNKS",
    "VRFY": "START READY MAIL RCPT_REFUSED RCPT CHUNKS",
    "HELP": "START READY MAIL RCPT_REFUSED RCPT CHUNKS",
    "QUIT": "CLOSED CLOSED CLOSED CLOSED CLOSED CLOSED",
}
STATES = ["START", "READY", "MAIL", "RCPT_REFUSED", "RCPT", "CHUNKS"]
CELLS = [(name, STATES[i], after) for name, row in AFTER.items() for i, after in enumerate(row.split())]


def said(name: str) -> bytes:
    """Return the line of a command with its CRLF, and the octet of BDAT."""
    return LINES[name].encode() + (b"" if name == "BDAT" else b"\r\n")


def dialogue_in(state: str) -> Dialogue:
    dialogue = Dialogue(starttls=True, require_hello=True, handshake=False, extensions=frozenset({"CHUNKING"}))
    dialogue.connection.offer_auth(("PLAIN",))
    dialogue.answers["RcptTo"] = [Reply(550, "No")] if state == "RCPT_REFUSED" else []
    whole = ["EHLO", "MAIL", "RCPT", *(["BDAT"] if state == "CHUNKS" else [])]
    for line in {"START": [], "READY": ["EHLO"], "MAIL": ["EHLO", "MAIL"]}.get(state, whole):
        dialogue.says(said(line))
    assert dialogue.connection.state is State[state]
    return dialogue


def pass_chunk(dialogue: Dialogue) -> None:
    """Take events up to the one that a reply is owed for."""
    while isinstance(dialogue.connection.next_event(), Bdat | BodyChunk):
        pass
    assert dialogue.connection.next_event() is PAUSED
