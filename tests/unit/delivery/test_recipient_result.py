"""The result of one recipient."""

import pytest

from triosmtp.delivery import DELIVERED, RecipientResult
from triosmtp.errors import Reject


@pytest.mark.parametrize(
    ("result", "delivered", "deferred"),
    [
        (DELIVERED, True, False),
        (RecipientResult(252), True, False),
        (RecipientResult(451), False, True),
        (RecipientResult(554), False, False),
    ],
)
def test_the_code_decides(result: RecipientResult, delivered: bool, deferred: bool) -> None:
    assert (result.is_delivered, result.is_deferred) == (delivered, deferred)


def test_the_result_of_a_refusal() -> None:
    assert RecipientResult.of_reject(Reject(552, "5.3.4", "Too big", reason="r")) == RecipientResult(
        552, "5.3.4", "Too big", "r"
    )
    assert RecipientResult.of_reject(Reject(550, text="No")).reason == "No"
