"""Makes the policies that the option Policy names: ``python:package.module:Name``."""

from triosmtp.module_loader import ModuleLoader, as_value_error
from triosmtp.policy.interface import Policy

__all__ = ["load_policy"]


def load_policy(loader: ModuleLoader, specification: str) -> Policy:
    """Import the policy that ``specification`` names.  It blocks.

    The name may be a class derived from :class:`Policy`, which is called without arguments, or an instance of one.

    :raises ValueError: if there is no such module or name, or if it is not a Policy.
    """
    found = loader.find(specification)
    if isinstance(found, type) and issubclass(found, Policy):
        with as_value_error(specification):
            found = found()
    if not isinstance(found, Policy):
        raise ValueError(f"{specification!r} is not a triosmtp.Policy: {found!r}")  # noqa: TRY004 - the one error of this function
    return found
