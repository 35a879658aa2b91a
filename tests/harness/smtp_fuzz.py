"""Random and mutated input for SMTP dialogues."""

import os
import random
import re
from typing import Any

from smtp_dialogue import Dialogue, joined

from triosmtp.smtp import Event, Reply
from triosmtp.smtp.auth_line import MAX_AUTH_LINE

JUDGE = os.environ.get("TRIOSMTP_JUDGE") == "1"
INPUTS = 10_000 if JUDGE else 2_000

DEPTHS: dict[str, list[str | bytes]] = {
    "banner": [],
    "hello": ["EHLO client.example"],
    "auth": ["EHLO client.example", "AUTH PLAIN"],
    "mail": ["EHLO client.example", "MAIL FROM:<a@example.org> SMTPUTF8"],
    "rcpt": ["EHLO client.example", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>"],
    "bdat": ["EHLO client.example", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", b"BDAT 40\r\nSubject"],
    "chunks": ["EHLO client.example", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", b"BDAT 1\r\nS"],
    "data": ["EHLO client.example", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "DATA"],
}
SEEDS = [
    b"EHLO client.example\r\n", b"HELO [192.0.2.1]\r\n", b"MAIL FROM:<a@example.org> SIZE=1000 BODY=8BITMIME\r\n",
    b'MAIL FROM:<"quoted \\" part"@example.org>\r\n', b"MAIL FROM:<\xc3\xbc@b\xc3\xbccher.example> SMTPUTF8\r\n",
    b"RCPT TO:<@relay.example,@other.example:b@[IPv6:2001:db8::1]>\r\n", b"RCPT TO:<PostMaster>\r\n", b"DATA\r\n",
    b"Subject: x\r\n\r\n..text\r\n.\r\n", b"\r\n.\r\n", b"STARTTLS\r\n", b"RSET\r\n", b"NOOP x\r\n", b"VRFY x\r\n",
    b"HELP\r\n", b"QUIT\r\n", b"EXPN x\r\n", b"\n.\n", b"\r.\r", b"x" * 3000,
    b"AUTH PLAIN AGEAYg==\r\n", b"AUTH CRAM-MD5\r\n", b"AUTH LOGIN =\r\n", b"*\r\n", b"AGEAYg==\r\n", b"====\r\n",
    b"MAIL FROM:<a@b> AUTH=<>\r\n", b"A" * 5000 + b"\r\n",
    b"MAIL FROM:<>\r\nRCPT TO:<b@c>\r\nDATA\r\n", b"BDAT 3 LAST\r\nx\r\n", b"BDAT 0 LAST\r\n", b"BDAT 2\r\n\r\n",
    b"BDAT 99999999999999999999\r\n", b"BDAT 12 LAST\r\n\r\n.\r\nQUIT\r\n",
    b"MAIL FROM:<a@b> BODY=BINARYMIME RET=HDRS ENVID=x+2B REQUIRETLS BY=9;N MT-PRIORITY=-9 HOLDFOR=9\r\n",
    b"RCPT TO:<a@b> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+40b\r\n", b"RCPT TO:<a@b> ORCPT=utf-8;\\x{FC}@b\r\n",
]  # fmt: skip
EVERY_EXTENSION = frozenset(
    {"CHUNKING", "BINARYMIME", "DSN", "LIMITS", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE"}
)
SPECIAL = b'\r\n\r\n\r\n..<>@:"\\ =[],\0\t\x7f\xc3\xbc\xff\xe2\x80\xa8'
REPLY_LINE = re.compile(rb"[2-5][0-9]{2}[ -][^\x00-\x1f\x7f]*\r\n")


def mutated(rng: random.Random) -> bytes:
    data = bytearray(b"".join(rng.choices(SEEDS, k=rng.randint(1, 6))))
    for _ in range(rng.randint(0, 8)):
        at = rng.randint(0, len(data))
        match rng.randint(0, 4):
            case 0:
                data[at : at + 1] = bytes([rng.choice(SPECIAL)])
            case 1:
                data[at:at] = bytes([rng.randint(0, 255)])
            case 2:
                del data[at : at + rng.randint(1, 9)]
            case 3:
                data[at:at] = data[at : at + 30] * rng.randint(1, 3)
            case _:
                data[at:at] = bytes(rng.choices(SPECIAL, k=rng.randint(1, 6)))
    return bytes(data)


def any_input(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.1:
        return rng.randbytes(rng.randint(1, 400))
    if kind < 0.2:
        return bytes(rng.choices(SPECIAL, k=rng.randint(1, 200)))
    return mutated(rng)


def any_rules(rng: random.Random) -> dict[str, Any]:
    return {
        "starttls": rng.random() < 0.5,
        "starttls_injection": rng.choice(["reject", "ignore", "allow"]),
        "lone_lf_in_headers": rng.choice(["ignore", "fix", "pedantic"]),
        "lone_lf_in_body": rng.choice(["ignore", "fix", "pedantic"]),
        "max_message_size": rng.choice([0, 50, 5000]),
        "max_command_errors": rng.choice([0, 5]),
        "enhanced_status_codes": rng.random() < 0.8,
        "allow_trailing_whitespace": rng.random() < 0.5,
        "sender_domain": rng.choice([None, "s.example"]),
        "max_junk_commands": rng.choice([0, 2]),
        "max_body_line": rng.choice([0, 20]),
        "long_lines": rng.choice(["none", "fix", "reject"]),
        "extensions": rng.choice([frozenset(), EVERY_EXTENSION]),
        "max_discarded_size": rng.choice([0, 30, 10**9]),
    }


def run(depth: str, data: bytes, rules: dict[str, Any], size: int) -> tuple[list[Event], bytes]:
    dialogue = Dialogue(**rules)
    if depth == "auth":
        dialogue.connection.offer_auth(("PLAIN", "CRAM-MD5"), frozenset({"LOGIN"}))
        dialogue.answers["Auth"] = [Reply(334, "")]
    dialogue.says(*DEPTHS[depth])
    dialogue.answers["AuthResponse"] = [Reply(334, "more"), Reply(535, "No", "5.7.8")]
    dialogue.events.clear()
    connection, wire = dialogue.connection, b""
    for start in range(0, len(data), size or 1):
        if connection.closed:
            break
        wire += dialogue.receives(data[start : start + size])
        limit = MAX_AUTH_LINE if depth == "auth" else rules.get("max_line", 2048)
        assert len(connection._buffer) + len(connection._skipped) <= limit
    if not connection.closed:
        dialogue.hangs_up()
    assert connection.closed
    return joined(dialogue.events), wire
