"""Find what the options Policy and Deliver_To name: ``python:package.module:Name``."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

__all__ = ["ModuleLoader", "as_value_error", "is_failure"]


class ModuleLoader:
    """Imports the modules that one configuration names; they may lie in ``folder``, the configuration's own.

    The loader of a configuration that replaces another one has the other's loader as ``previous``.  Modules that the
    previous one imported from the folder are imported again, so that an edited policy is the new one.  The previous
    modules stay alive with their policies and deliveries.  Other modules, and those that the program imported itself,
    are imported once, as usual.
    """

    def __init__(self, folder: Path | None, previous: "ModuleLoader | None" = None) -> None:
        self._folder = None if folder is None else folder.resolve()
        self._modules: dict[str, ModuleType] = {}
        self._replaced: dict[str, ModuleType] = {}
        self._fresh = previous is None
        """Whether the modules of the previous loader were put away."""
        if previous is not None:
            self._replaced = previous.modules

    @property
    def modules(self) -> dict[str, ModuleType]:
        """The modules beside the configuration that are in use."""
        return self._modules if self._fresh else self._replaced

    def find(self, specification: str) -> object:
        """Import the module of ``specification``, and return what it has under the name.  Blocks.

        :raises ValueError: with the reason, if there is no such module or name, or if its import fails.
        """
        scheme, _, rest = specification.partition(":")
        module_name, _, name = rest.partition(":")
        if scheme != "python" or not module_name or not name:
            raise ValueError(f"{specification!r} is not of the form python:package.module:Name")
        with as_value_error(specification):
            found = self._import(module_name)
            for part in name.split("."):
                found = getattr(found, part)
            return found

    def discard(self) -> None:
        """Put back the modules of the previous loader: this one's configuration never came into force."""
        for name in self._modules:
            sys.modules.pop(name, None)
        if self._fresh:
            sys.modules.update(self._replaced)
        self._modules.clear()

    def _import(self, module_name: str) -> object:
        # Last in the path: a file beside the configuration must not take the place of a module that is installed.
        if self._folder is not None and str(self._folder) not in sys.path:
            sys.path.append(str(self._folder))
        if not self._fresh:
            self._fresh = True
            for name in self._replaced:
                sys.modules.pop(name, None)
        importlib.invalidate_caches()
        before = set(sys.modules)
        # No byte code is written: Python compares it with the source only by size and second of change.
        writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            return importlib.import_module(module_name)
        finally:
            sys.dont_write_bytecode = writes
            self._modules |= {
                name: module
                for name, module in sys.modules.copy().items()
                if name not in before and self._is_beside(name, module)
            }

    def _is_beside(self, name: str, module: ModuleType) -> bool:
        """Return whether a module is one of the configuration's folder: a file in it, or of a package in it."""
        file = getattr(module, "__file__", None)
        if self._folder is None or file is None:
            return False
        path = Path(file).resolve()
        return path.parent == self._folder or path.is_relative_to(self._folder / name.partition(".")[0])


@contextmanager
def as_value_error(specification: str) -> Iterator[None]:
    """Turn any failure of the operator's own code into a ValueError of one line that names ``specification``."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(f"{specification!r}: {error}") from error
    except (Exception, SystemExit) as error:
        # Any failure of the operator's module during the import is reported in one line that names it.
        raise ValueError(f"{specification!r}: {type(error).__name__}: {error}") from error


def is_failure(error: BaseException) -> bool:
    """Return whether the operator's own code failed with ``error``, as opposed to a cancellation or an interrupt.

    SystemExit is a failure: ``sys.exit()`` in a policy or delivery must not end the server.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_failure, error.exceptions))
    return isinstance(error, Exception | SystemExit)
