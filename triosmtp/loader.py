"""Find what the options Policy and Deliver_To name: ``python:package.module:Name``."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

__all__ = ["ModuleLoader", "telling"]


class ModuleLoader:
    """Imports the modules that one configuration names; they may lie in ``folder``, the configuration's own.

    A configuration that takes the place of another has a loader with the other as ``previous``: the modules from the
    folder that the other one imported are imported anew, so that a policy that was edited is the new one.  The modules
    of the other live on with the policies and deliveries that were made of them.  Modules from elsewhere, and those
    that the program imported itself, are imported once, as always.
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
        with telling(specification):
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
        # No byte code is kept of it: that is told from its source by size and second of change alone.
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
        """Whether a module is one of the configuration's folder: a file in it, or of a package in it."""
        file = getattr(module, "__file__", None)
        if self._folder is None or file is None:
            return False
        path = Path(file).resolve()
        return path.parent == self._folder or path.is_relative_to(self._folder / name.partition(".")[0])


@contextmanager
def telling(specification: str) -> Iterator[None]:
    """Turn any failure of the operator's own code into a ValueError of one line that names ``specification``."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(f"{specification!r}: {error}") from error
    except (Exception, SystemExit) as error:
        # Whatever the operator's module does while it is imported, the report is one line that names it.
        raise ValueError(f"{specification!r}: {type(error).__name__}: {error}") from error
