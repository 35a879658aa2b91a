"""Random and mutated input at every depth of a dialogue: only documented outcomes, in bounded memory."""

import random
from typing import get_args

import pytest
from smtp_dialogue import Dialogue
from smtp_fuzz import DEPTHS, INPUTS, REPLY_LINE, any_input, any_rules, run

from triosmtp.smtp import Event


@pytest.mark.parametrize("depth", DEPTHS)
def test_only_documented_outcomes(depth: str) -> None:
    count = INPUTS // len(DEPTHS)
    print(f"{count} inputs at depth {depth}, {10_000 // len(DEPTHS)} when judged")
    rng = random.Random(depth)
    for _ in range(count):
        data, rules = any_input(rng), any_rules(rng)
        events, wire = run(depth, data, rules, len(data))
        assert all(isinstance(event, get_args(Event)) for event in events)
        assert REPLY_LINE.sub(b"", wire) == b"", (data, rules)
        assert all(len(line) <= 510 for line in wire.split(b"\r\n"))
        split_events, split_wire = run(depth, data, rules, 1)
        if (
            rules["max_discarded_size"] > 30
            and not rules["max_command_errors"]
            and (not rules["starttls"] or b"STARTTLS" not in data.upper())
        ):
            # The cuts decide which octets are behind STARTTLS in one buffer, when a refused body ends the connection,
            # and which commands were received before a refusal.
            assert (split_events, split_wire) == (events, wire), (data, rules)


def test_ten_megabytes_of_command_line() -> None:
    dialogue = Dialogue()
    for _ in range(160):
        dialogue.says(b"NOOP \n" + b"\r" * 65536)
        assert len(dialogue.connection._buffer) + len(dialogue.connection._skipped) <= 2048
    assert dialogue.events == []
    assert dialogue.says("", "NOOP") == ["500 5.5.2 Line too long", "250 2.0.0 Ok"]


def test_a_large_read_is_not_kept_for_its_unfinished_line() -> None:
    dialogue = Dialogue(max_command_errors=0, max_junk_commands=0)
    dialogue.says(b"NOOP\r\n" * 40000 + b"NO")
    assert dialogue.connection._buffer == b"NO"
