"""The choice for one recipient: what a block changes is its own, however the block ends."""

from datetime import UTC, datetime

import pytest

from triosmtp.message import Envelope, Message, Recipient
from triosmtp.message.spool import Body
from triosmtp.policy import Session, choice_for_recipient
from triosmtp.smtp import Address

ONE, TWO = (Recipient(Address(name, "example.com"), {}) for name in ("one", "two"))


def begun(**variables: str) -> tuple[Session, Message]:
    session = Session(id="S", listener="25", peer="unix", peer_address=None, local="unix")
    session.message_variables.update(variables)
    message = Message(
        id="S-1",
        envelope=Envelope(Address.NULL, {}, [ONE, TWO]),
        body=Body(b""),
        received=datetime.now(UTC),
        message_variables=session.message_variables,
    )
    return session, message


@pytest.mark.parametrize("usual", [None, "all"])
@pytest.mark.parametrize("chosen", [None, "own", ""])
def test_a_change_is_for_the_recipient_and_the_next_one_finds_that_of_the_message(
    usual: str | None, chosen: str | None
) -> None:
    session, message = begun(**({} if usual is None else {"deliver_to": usual}), colour="red")
    with choice_for_recipient(session, message, TWO):
        assert session.message_variables.get("deliver_to") == usual
        session.message_variables.apply({"deliver_to": chosen, "colour": "blue"})
        assert session.message_variables.get("deliver_to") == chosen
    assert session.message_variables.get("deliver_to") == usual
    assert session.message_variables["colour"] == "blue", "other variables are of the message"
    assert message.chosen_targets() == [usual, chosen]
    assert message.has_variants is (usual != chosen)


def test_a_refusal_leaves_no_choice_to_the_next_message() -> None:
    session, message = begun()

    def refuse() -> None:
        session.message_variables["deliver_to"] = "own"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), choice_for_recipient(session, message, ONE):
        refuse()
    assert "deliver_to" not in session.message_variables
