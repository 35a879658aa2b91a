"""Passwords that scripts check: schemes of ``msys.registerAuth``, and ``ac_auth://`` by ac_auth_perform_auth."""

from abc import abstractmethod
from typing import Any, Final

import trio

from triosmtp.lua.callout import Callout, Response
from triosmtp.lua.engine import Engine
from triosmtp.lua.state import Failure
from triosmtp.policy import CheckedPassword, PasswordAnswer, PasswordCheck, PasswordQuestion, Session

__all__ = ["ScriptPasswords"]

_AC_AUTH: Final = "ac_auth"
_METHOD: Final = "ac_auth_perform_auth"
_SECONDS: Final = 30.0
_RESULTS: Final = (CheckedPassword.RIGHT, CheckedPassword.WRONG, CheckedPassword.ERROR)
"""The results by the numbers of EC_AUTH_OK, EC_AUTH_FAIL and EC_AUTH_ERROR."""


class ScriptPasswords(PasswordCheck):
    """The part of the policy of scripts that checks passwords."""

    @property
    @abstractmethod
    def scripts(self) -> Engine:
        """The set of scripts."""

    def answers(self, scheme: str) -> bool:
        """Return whether a script checks passwords of a scheme."""
        if scheme.encode() in self.scripts.authenticators:
            return True
        return scheme == _AC_AUTH and bool(self.scripts.methods(_METHOD))

    async def check_password(self, session: Session, question: PasswordQuestion) -> PasswordAnswer:
        """Ask the script.  An error of it, or no answer in time, is a temporary failure."""
        engine = self.scripts
        scripts = engine.of_session(session)
        callout = Callout(engine=engine, phase="auth", method="authenticate", module=question.scheme, scripts=scripts)
        response = Response()
        try:
            with trio.fail_after(_SECONDS):
                result = await _ask(engine, callout, question, response)
        except (Failure, trio.TooSlowError) as error:
            failure = error if isinstance(error, Failure) else Failure(f"no answer within {_SECONDS:.0f} s")
            engine.log_failure(callout, failure)
            return PasswordAnswer(CheckedPassword.ERROR)
        known = isinstance(result, int | float) and not isinstance(result, bool) and result in range(len(_RESULTS))
        if not known:
            failure = Failure(f"the result is none of EC_AUTH_OK, EC_AUTH_FAIL, EC_AUTH_ERROR: {result!r}")
            engine.log_failure(callout, failure)
            return PasswordAnswer(CheckedPassword.ERROR)
        return PasswordAnswer(_RESULTS[int(result)], response.text.decode("utf-8", "replace"))


async def _ask(engine: Engine, callout: Callout, question: PasswordQuestion, response: Response) -> Any:
    table = engine.authenticators.get(question.scheme.encode())
    if table is not None:
        arguments = question.file_name, dict(question.arguments), question.user, question.password
        return await engine.call_field(callout, table, "authenticate", *arguments)
    callout.method = _METHOD
    assert callout.scripts is not None, "there is a session"
    module = engine.methods(_METHOD)[0]
    return await engine.call(callout, module, question.user, question.password, callout.scripts.ac, response)
