"""Names (PEP 562) and modules that are imported at their first use: short commands import only what they need."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType

__all__ = ["defer_import", "lazy_names"]


def lazy_names(package: str, modules: Mapping[str, tuple[str, ...]]) -> Callable[[str], object]:
    """Return the ``__getattr__`` of ``package``: its names come from ``modules``, a map from modules to names.

    These modules are attributes of the package, too, as they are after an import.  So no name may be that of a module.
    """
    homes = {name: module for module, names in modules.items() for name in names}
    submodules = {module.removeprefix(f"{package}.").partition(".")[0] for module in modules}

    def get(name: str) -> object:
        if name in homes:
            value = sys.modules[package].__dict__[name] = getattr(import_module(homes[name]), name)
            return value
        if name in submodules:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get


class _DeferredModule(ModuleType):
    """A module that executes when an attribute is used that the import system has not set."""

    def __getattr__(self, name: str) -> object:
        self.__class__ = ModuleType  # type: ignore[assignment]  # from now on it costs nothing
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def defer_import(name: str) -> None:
    """Let the module ``name`` execute at its first use instead of its import, if it is not imported yet.

    The package of the module is imported.  For a program that may end without the module; call it before there are
    threads.
    """
    from importlib.util import find_spec, module_from_spec  # noqa: PLC0415 - few commands need it

    if name in sys.modules:
        return
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module = module_from_spec(spec)
    module.__class__ = _DeferredModule
    sys.modules[name] = module
    package, _, own_name = name.rpartition(".")
    if package:
        setattr(sys.modules[package], own_name, module)
