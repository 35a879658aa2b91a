"""x"""

import pytest

from triosmtp.module_loader import is_failure


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_an_interrupt_is_no_failure_of_a_policy(error: type[BaseException]) -> None:
    assert not is_failure(error())
    assert not is_failure(BaseExceptionGroup("", [ValueError(), error()]))
    assert is_failure(BaseExceptionGroup("", [ValueError(), SystemExit()]))
