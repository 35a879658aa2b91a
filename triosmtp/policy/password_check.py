"""Policies that check passwords themselves, for the schemes of URIs that no file answers: ``uri = "scheme://…"``."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum, auto

from attrs import Factory, frozen

from triosmtp.policy.policy_session import Session

__all__ = ["CheckedPassword", "PasswordAnswer", "PasswordCheck", "PasswordQuestion"]


@frozen(slots=True, kw_only=True)
class PasswordQuestion:
    """A user and a password, and the parameters of the mechanism's option."""

    scheme: str
    file_name: str
    """The text of the URI behind ``scheme://``."""
    user: str
    password: str
    arguments: Mapping[str, str] = Factory(dict)

    def __repr__(self) -> str:
        return f"PasswordQuestion({self.scheme}://, {self.user!r})"


class CheckedPassword(Enum):
    """The result of a check."""

    RIGHT = auto()
    WRONG = auto()
    ERROR = auto()


@frozen(slots=True)
class PasswordAnswer:
    """The result of a check, and the text of the reply; ``""`` is the usual one."""

    result: CheckedPassword
    text: str = ""


class PasswordCheck(ABC):
    """A part of a policy: it answers questions about passwords of some schemes."""

    @abstractmethod
    def answers(self, scheme: str) -> bool:
        """Return whether it checks passwords of a scheme."""

    @abstractmethod
    async def check_password(self, session: Session, question: PasswordQuestion) -> PasswordAnswer:
        """Check a password.  An exception is a temporary failure of the attempt."""
