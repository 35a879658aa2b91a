"""DEFER_IF_PERMIT and DEFER_IF_REJECT: the refusal in place of the result of a phase."""

import pytest

from triosmtp.errors import Reject
from triosmtp.policy.deferral import Deferral

PERMIT, REJECT, LATER = Reject(450, "4.7.1", "permit"), Reject(451, "4.7.1", "reject"), Reject(452, "4.7.1", "later")


@pytest.mark.parametrize(("code", "refusal"), [(None, PERMIT), (450, None), (499, None), (500, REJECT), (554, REJECT)])
def test_a_condition_replaces_a_result_of_its_kind(code: int | None, refusal: Reject | None) -> None:
    assert Deferral(PERMIT, REJECT).refusal(code) is refusal
    assert Deferral().refusal(code) is None


def test_of_two_conditions_of_one_kind_the_first_applies() -> None:
    assert Deferral(if_permit=PERMIT).joined(Deferral(LATER, LATER)) == Deferral(PERMIT, LATER)
    assert Deferral(if_reject=REJECT).joined(Deferral(LATER, LATER)) == Deferral(LATER, REJECT)
