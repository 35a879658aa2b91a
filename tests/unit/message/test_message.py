"""Envelopes: the values of the parameters of MAIL and RCPT.  Messages with changes for single recipients."""

from datetime import UTC, datetime

import pytest

from triosmtp.message.message import Envelope, Message, Recipient
from triosmtp.message.spool import Body
from triosmtp.smtp import Address, parse_path

SENDER = Address("a", "example.org")


def test_an_envelope_without_parameters_has_the_defaults_of_its_rfcs() -> None:
    envelope = Envelope(SENDER)
    assert (envelope.body_type, envelope.priority, envelope.ret, envelope.envid) == ("7BIT", 0, None, None)
    assert (envelope.smtputf8, envelope.requiretls, envelope.deliver_by) == (False, False, None)


def test_the_parameters_of_mail_are_decoded() -> None:
    envelope = Envelope(
        SENDER,
        {
            "BODY": "8BITMIME", "SMTPUTF8": None, "REQUIRETLS": None, "RET": "HDRS", "ENVID": "a+2Bb",
            "MT-PRIORITY": "-3", "BY": "-120;NT",
        },
    )  # fmt: skip
    assert (envelope.body_type, envelope.priority, envelope.ret, envelope.envid) == ("8BITMIME", -3, "HDRS", "a+b")
    assert (envelope.smtputf8, envelope.requiretls, envelope.deliver_by) == (True, True, (-120, "N", True))


@pytest.mark.parametrize(
    ("parameters", "notify", "original"),
    [
        ({}, frozenset(), None),
        ({"NOTIFY": "SUCCESS,DELAY"}, frozenset({"SUCCESS", "DELAY"}), None),
        ({"NOTIFY": "NEVER", "ORCPT": "rfc822;b+2Bc@example.com"}, frozenset({"NEVER"}), ("rfc822", "b+c@example.com")),
    ],
)
def test_the_parameters_of_rcpt_are_decoded(
    parameters: dict[str, str | None], notify: frozenset[str], original: tuple[str, str] | None
) -> None:
    recipient = Recipient(Address("b", "example.com"), parameters)
    assert (recipient.notify, recipient.original, str(recipient)) == (notify, original, "b@example.com")


def test_variants_are_the_recipients_with_equal_changes_and_a_replaced_one_keeps_its_changes() -> None:
    first, second, third = (
        Recipient(parse_path(f"<{name}@example.org>".encode(), utf8=False, forward=True), {}) for name in "aab"
    )
    message = Message(
        id="1",
        envelope=Envelope(first.address, {}, [first, second, third]),
        body=Body(b"x"),
        received=datetime.now(UTC),
    )
    assert message.variants() == [(None, [0, 1, 2])]
    message.edits_of(third)  # without a change
    assert (message.has_variants, message.variants()) == (False, [(None, [0, 1, 2])])
    message.edits_of(second).prepend("X", "1")  # which is equal to the first recipient, and another object
    message.edits_of(third).prepend("X", "1")
    assert [numbers for _, numbers in message.variants()] == [[0], [1, 2]]
    message.edits_of(message.replace_recipient(second, third.address)).prepend("Y", "2")
    assert [numbers for _, numbers in message.variants()] == [[0], [1], [2]]
    assert [str(each) for each in message.envelope.recipients] == ["a@example.org", "b@example.org", "b@example.org"]
    message.edits_of(second).prepend("Z", "3")  # a policy that holds the one that was replaced
    assert [len(edits.operations) for edits, _ in message.variants() if edits] == [3, 1]
    with pytest.raises(ValueError, match="is not a recipient"):
        message.replace_recipient(Recipient(first.address, {}), third.address)


def test_the_target_of_a_recipient_is_that_of_the_message_or_its_own_and_goes_with_a_replacement() -> None:
    first, second, third = (Recipient(Address(name, "example.org"), {}) for name in "aab")
    message = Message(
        id="1",
        envelope=Envelope(first.address, {}, [first, second, third]),
        body=Body(b"x"),
        received=datetime.now(UTC),
    )
    assert (message.chosen_targets(), message.has_variants) == ([None, None, None], False)
    message.message_variables = {"deliver_to": "all"}
    message.choose_target(second, "own")  # which is equal to the first recipient, and another object
    message.choose_target(third, None)
    assert (message.chosen_targets(), message.has_variants) == (["all", "own", None], True)
    message.replace_recipient(second, third.address)
    message.choose_target(second, "other")
    message.replace_recipient(second, first.address)
    assert message.chosen_targets() == ["all", "other", None]
    del message.envelope.recipients[0]
    assert message.chosen_targets() == ["other", None]
