"""AUTH (RFC 4954) line by line: what may be said when, and that no password is ever shown."""

import base64

import pytest
from smtp_dialogue import Dialogue, codes

from triosmtp.smtp import Auth, AuthResponse, BadCommand, Reply, State

PLAIN = base64.b64encode(b"\0joe\0secret").decode()


def offering(*mechanisms: str, tls_only_mechanisms: frozenset[str] = frozenset(), hello: str = "EHLO x") -> Dialogue:
    dialogue = Dialogue()
    dialogue.connection.offer_auth(mechanisms, tls_only_mechanisms)
    dialogue.says(hello)
    dialogue.events.clear()
    return dialogue


def test_an_exchange() -> None:
    dialogue = offering("PLAIN", "LOGIN")
    assert "250 AUTH PLAIN LOGIN" in dialogue.says("EHLO x")
    dialogue.answers = {"Auth": [Reply(334, "VXNlcm5hbWU6")], "AuthResponse": [Reply(334, "UGFzc3dvcmQ6")]}
    assert dialogue.says("auth login", "am9l", "c2VjcmV0") == [
        "334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 2.7.0 Authentication successful",
    ]  # fmt: skip
    assert dialogue.events[1:] == [Auth("LOGIN"), AuthResponse(b"joe"), AuthResponse(b"secret")]
    assert dialogue.connection.state is State.READY
    assert dialogue.says("AUTH PLAIN") == ["503 5.5.1 Already authenticated"]
    assert codes(dialogue.says("MAIL FROM:<a@b.example> AUTH=joe+40b", "RSET", "MAIL FROM:<> AUTH=<>")) == [
        250,
        250,
        250,
    ]
    assert codes(dialogue.says("RSET", "MAIL FROM:<> AUTH=a+")) == [250, 501]
    assert (
        codes(dialogue.says("MAIL FROM:<> AUTH=a+00b", "MAIL FROM:<> AUTH=+0D+0Aa", "MAIL FROM:<> AUTH=+7F"))
        == [501] * 3
    )
    assert codes(dialogue.says("MAIL FROM:<> AUTH=j+C3+B6@b.example")) == [250]


def test_initial_responses() -> None:
    for argument, initial in ((PLAIN, b"\0joe\0secret"), ("=", b"")):
        dialogue = offering("PLAIN")
        assert codes(dialogue.says(f"AUTH PLAIN {argument}")) == [235]
        assert dialogue.events == [Auth("PLAIN", initial)]


def test_nothing_as_a_response() -> None:
    for response in ("", "="):
        dialogue = offering("EXTERNAL")
        dialogue.answers = {"Auth": [Reply(334, "")]}
        assert codes(dialogue.says("AUTH EXTERNAL", response)) == [334, 235]
        assert dialogue.events == [Auth("EXTERNAL"), AuthResponse(b"")]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("AUTH", "501 5.5.4 Syntax: AUTH mechanism [initial-response]"),
        ("AUTH PLAIN a b", "501 5.5.4 Syntax: AUTH mechanism [initial-response]"),
        ("AUTH PLAIN &&&", "501 5.5.2 Cannot decode this response: not base64"),
        ("AUTH PLAIN AGE", "501 5.5.2 Cannot decode this response: not base64"),
        ("AUTH GSSAPI", "504 5.5.4 Unrecognized authentication type"),
        ("AUTH LOGIN", "538 5.7.11 Encryption is required for this mechanism"),
    ],
)
def test_errors(line: str, reply: str) -> None:
    dialogue = offering("PLAIN", tls_only_mechanisms=frozenset({"LOGIN"}))
    assert dialogue.says(line, "NOOP") == [reply, "250 2.0.0 Ok"]


def test_out_of_place() -> None:
    assert codes(offering("PLAIN", hello="HELO x").says("AUTH PLAIN")) == [503]
    assert codes(offering("PLAIN").says("MAIL FROM:<>", f"AUTH PLAIN {PLAIN}")) == [250, 503]
    assert codes(offering().says(f"AUTH PLAIN {PLAIN}")) == [502]
    assert codes(offering().says("MAIL FROM:<> AUTH=<>")) == [555]
    assert "AUTH" not in offering(tls_only_mechanisms=frozenset({"PLAIN"})).says("EHLO x")[-1]


def test_a_response_is_cancelled_or_malformed_and_the_session_continues() -> None:
    for response, code in (("*", 501), ("no base64!", 501), ("a\tb", 500), ("A" * 13_000, 500)):
        dialogue = offering("PLAIN")
        dialogue.answers = {"Auth": [Reply(334, "")], "AuthResponse": [Reply(501, "Cancelled", "5.7.0")]}
        assert codes(dialogue.says("AUTH PLAIN", response, "NOOP")) == [334, code, 250]
        assert dialogue.connection.state is State.READY
    dialogue = offering("PLAIN")
    dialogue.answers = {"Auth": [Reply(334, "")]}
    assert codes(dialogue.says("AUTH PLAIN", "NOOP x")) == [334, 501]  # while an answer is due nothing is a command


def test_long_lines_are_for_auth_alone() -> None:
    long = base64.b64encode(b"x" * 9000).decode()
    dialogue = offering("PLAIN")
    assert codes(dialogue.says(f"AUTH PLAIN {long}", size=1000)) == [235]
    assert codes(offering("PLAIN").says(f"AUTH PLAIN {long * 2}", "NOOP", size=1000)) == [500, 250]
    assert codes(offering("PLAIN").says(f"NOOP {long}", "NOOP")) == [500, 250]
    assert codes(offering().says(f"AUTH PLAIN {long}", "NOOP")) == [500, 250]


def test_no_password_is_shown() -> None:
    dialogue = offering("LOGIN", tls_only_mechanisms=frozenset({"PLAIN"}))
    dialogue.answers = {"Auth": [Reply(334, "")]}
    dialogue.says(f"AUTH PLAIN {PLAIN}", f"AUTH X {PLAIN}", "AUTH LOGIN", f"{PLAIN}!", f"AUTH LOGIN {PLAIN}")
    shown = "".join(map(repr, dialogue.events))
    assert PLAIN[:8] not in shown
    assert "secret" not in shown
    assert [event.line for event in dialogue.events if isinstance(event, BadCommand)] == [b"AUTH"] * 3


def test_nor_is_one_in_a_line_that_is_too_long() -> None:
    dialogue = offering("PLAIN")
    dialogue.answers = {"Auth": [Reply(334, "")]}
    dialogue.says(f"AUTH PLAIN {PLAIN * 2000}", "AUTH PLAIN", PLAIN * 2000)
    assert [event.line for event in dialogue.events if isinstance(event, BadCommand)] == [b"AUTH"] * 2


def test_a_peer_that_leaves_in_the_middle() -> None:
    dialogue = offering("PLAIN")
    dialogue.answers = {"Auth": [Reply(334, "")]}
    dialogue.says("AUTH PLAIN")
    dialogue.hangs_up()
    assert not dialogue.events[-1].clean  # type: ignore[union-attr]
    dialogue = offering("PLAIN")
    dialogue.connection.receive_data(b"NOOP\r\n")
    dialogue.connection.next_event()
    with pytest.raises(RuntimeError, match="334 does not answer"):
        dialogue.connection.send(Reply(334, ""))
