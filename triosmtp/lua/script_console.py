"""Commands of the console that scripts have registered by ``msys.registerControl``."""

from collections.abc import Sequence
from typing import Final

import trio
from attrs import Factory, define

from triosmtp.lua.api.registration_functions import ControlCall
from triosmtp.lua.callout import Callout
from triosmtp.lua.engine import Engine
from triosmtp.lua.state import Failure

__all__ = ["ControlFailedError", "run_control"]

_SECONDS: Final = 60.0
_MAX_ANSWER: Final = 256 * 1024


class ControlFailedError(Exception):
    """A command that failed; the text says why."""


@define(slots=True, eq=False, kw_only=True)
class _ConsoleCallout(Callout):
    """A callout whose output is the answer of a command."""

    lines_printed: list[bytes] = Factory(list)
    size: int = 0

    def printed(self, text: bytes) -> bool:
        """Take a line of output."""
        self.size += len(text) + 1
        if self.size <= _MAX_ANSWER:
            self.lines_printed.append(text)
        return True


async def run_control(engine: Engine, words: Sequence[str]) -> str | None:
    """Run a command of the console and return what it prints; None if no script has registered its first word.

    :raises ControlFailedError: if the script fails or takes too long.
    """
    function = engine.controls.get(words[0].encode("utf-8", "surrogateescape")) if words else None
    if function is None:
        return None
    callout = _ConsoleCallout(engine=engine, phase="console", method="registerControl", module=words[0])
    try:
        with trio.fail_after(_SECONDS):
            await engine.run(callout, function, ControlCall(words))
    except Failure as error:
        engine.log_failure(callout, error)
        raise ControlFailedError(error.text) from None
    except trio.TooSlowError:
        raise ControlFailedError(f"{words[0]} did not end within {_SECONDS:.0f} s") from None
    return b"\n".join(callout.lines_printed).decode("utf-8", "replace")
