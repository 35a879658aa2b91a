"""Find the policies that the option Policy names: ``python:package.module:Name``."""

import importlib
import sys
from pathlib import Path

from triosmtp.policy.interface import Policy

__all__ = ["load_policy"]


def load_policy(specification: str, folder: Path | None) -> Policy:
    """Import the policy that ``specification`` names; its module may lie in ``folder``, the configuration's own.

    The name may be a class derived from :class:`Policy`, which is called without arguments, or an instance of one.

    :raises ValueError: with the reason, where there is no such module or name, or where it is not a Policy.
    """
    scheme, _, rest = specification.partition(":")
    module_name, _, name = rest.partition(":")
    if scheme != "python" or not module_name or not name:
        raise ValueError(f"{specification!r} is not of the form python:package.module:Name")
    # Last in the path: a file beside the configuration must not take the place of a module that is installed.
    if folder is not None and str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))
    importlib.invalidate_caches()
    try:
        found: object = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
        if isinstance(found, type) and issubclass(found, Policy):
            found = found()
    except ModuleNotFoundError as error:
        raise ValueError(f"{specification!r}: {error}") from error
    except (Exception, SystemExit) as error:
        # Whatever the operator's module does while it is imported, the report is one line that names it.
        raise ValueError(f"{specification!r}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Policy):
        raise ValueError(f"{specification!r} is not a triosmtp.Policy: {found!r}")  # noqa: TRY004 - as all else here
    return found
