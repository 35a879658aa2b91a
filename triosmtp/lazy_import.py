"""Names of a package that are imported at their first use (PEP 562): short commands import only what they need."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["lazy_names"]


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
