"""Envelopes: the values of the parameters of MAIL and RCPT."""

import pytest

from triosmtp.message.message import Envelope, Recipient
from triosmtp.smtp import Address

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
