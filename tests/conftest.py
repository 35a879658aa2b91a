"""Settings and hooks for every test."""

import gc
import os
import shutil
import tempfile
import traceback
import warnings
from collections.abc import Generator, Iterator

import hypothesis
import pytest

# A machine that is busy is no failure: no example has a deadline.
hypothesis.settings.register_profile("triosmtp", deadline=None)
hypothesis.settings.load_profile("triosmtp")

# Tests read the log of a server as a person does; those of the other form ask for it.
os.environ.setdefault("TRIOSMTP_LOG_FORMAT", "text")

# A server whose test names no folder must not use the user's own: mail may be in it, and the control socket of another
# process of these tests.
for _name in ("RUNTIME_DIRECTORY", "STATE_DIRECTORY", "XDG_RUNTIME_DIR"):
    os.environ.pop(_name, None)
_state = tempfile.mkdtemp(prefix="triosmtp-state-")
os.environ["XDG_STATE_HOME"] = _state


def pytest_unconfigure() -> None:
    """Remove what servers left there."""
    shutil.rmtree(_state, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a test whose program is not installed; see :func:`_named_missing`."""
    with _named_missing():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a test whose program is not installed; see :func:`_named_missing`."""
    with _named_missing():
        return (yield)


class _named_missing:
    """Turn the error of starting a program that is not installed into a skip that names it, but not in CI.

    A skip inside of a nursery gets its reason back.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if (
            isinstance(error, pytest.skip.Exception) and not error.msg
        ):  # pytest-trio drops the reason of one in a nursery
            for each in _leaves(error):
                if isinstance(each, pytest.skip.Exception) and each.msg:
                    pytest.skip(each.msg)
        if error is None or os.environ.get("CI"):
            return
        for each in _leaves(error):
            if isinstance(each, FileNotFoundError) and isinstance(each.filename, str):
                program = each.filename
                if "/" not in program and shutil.which(program) is None:
                    _drop_frames(error)
                    pytest.skip(f"{program} is not installed")


def _drop_frames(error: BaseException) -> None:
    """Close what the interrupted test had open, so that the next test is not blamed for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for each in _leaves(error):
            traceback.clear_frames(each.__traceback__)
        gc.collect()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
        for cause in (error.__cause__, error.__context__):
            if cause is not None:
                yield from _leaves(cause)
