"""Finds the Lua modules of scripts in the folders of the configuration, and translates them."""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from triosmtp.lua.api.extras import import_extras
from triosmtp.lua.host import ScriptError
from triosmtp.lua.translate import translate

__all__ = ["ModuleFinder"]

_MAX_FILE: Final = 4 << 20
_MAX_NAME: Final = 200
_MAX_MODULES: Final = 1000
_REQUIRE: Final = re.compile(rb"\brequire\s*\(?\s*[\"']([^\"'\n]{1,200})[\"']")
_NAME: Final = re.compile(r"[^/.\0]+(?:[/.][^/.\0]+)*").fullmatch
_MISSING: Final = (
    "local name = ... local function field(_, key) return function() "
    'error("triosmtp does not have " .. name .. "." .. tostring(key), 2) end end '
    "local module, at = setmetatable({}, { __index = field }), _G "
    "for part in name:gmatch('([^.]+)%.') do at = type(at) == 'table' and rawget(at, part) end "
    "local last = name:match('[^.]+$') "
    "if type(at) == 'table' and rawget(at, last) == nil then at[last] = module end "
    "return module"
)


class ModuleFinder:
    """Finds modules in ``folders``, in their order.

    ``missing`` are the modules of Momentum that triosmtp does not have: they are found, with a warning, and each call
    of a function is an error.
    """

    def __init__(self, folders: Iterable[Path], missing: Iterable[str], warn: Callable[[str], None]) -> None:
        self.folders = tuple(folders)
        self._missing = frozenset(missing)
        self._warn = warn
        self._found: dict[bytes, tuple[bytes, bytes]] = {}

    def find(self, name: bytes) -> tuple[bytes, bytes]:
        """Return the translated text of a module and the name of its chunk.  A module is read once.  Blocks.

        :raises ScriptError: if there is no such module, or if it cannot be read or translated.
        """
        found = self._found.get(name)
        if found is None:
            found = self._read(name)
            if len(self._found) < _MAX_MODULES:
                self._found[name] = found
        return found

    def preload(self, names: Iterable[bytes]) -> None:
        """Read modules, and those that they require by a literal name.  Blocks; an error comes at :meth:`find`."""
        waiting = list(names)
        while waiting and len(self._found) < _MAX_MODULES:
            name = waiting.pop()
            if name in self._found:
                continue
            with suppress(ScriptError):
                text, _ = self.find(name)
                waiting += (match[1] for match in _REQUIRE.finditer(text))

    def _read(self, name: bytes) -> tuple[bytes, bytes]:
        module = name.decode("utf-8", "surrogateescape")
        key = module.replace("/", ".")
        if key in self._missing:
            self._warn(f"triosmtp does not have the module {key} of Momentum: calls of its functions are errors")
            return _MISSING.encode(), b"=" + name
        path = self._path(module)
        try:
            with path.open("rb") as file:
                text = file.read(_MAX_FILE + 1)
        except OSError as error:
            raise ScriptError(f"module '{module}': {path}: {error.strerror}") from None
        if len(text) > _MAX_FILE:
            raise ScriptError(f"module '{module}': {path} is larger than {_MAX_FILE} bytes")
        for warning in import_extras(text):
            self._warn(f"{path}: {warning}")
        chunk = b"@" + str(path).encode("utf-8", "surrogateescape")
        return translate(_without_first_line(text), chunk), chunk

    def _path(self, module: str) -> Path:
        if module.startswith("/") and module.endswith(".lua"):
            return Path(module)
        if len(module) > _MAX_NAME or not _NAME(module):
            raise ScriptError(f"module '{module[:_MAX_NAME]}' not found: it is not the name of a module")
        relative = Path(*re.split(r"[/.]", module))
        candidates = [folder / relative.with_name(f"{relative.name}.lua") for folder in self.folders]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        tried = "".join(f"\n\tno file '{candidate}'" for candidate in candidates)
        raise ScriptError(f"module '{module}' not found:{tried}")


def _without_first_line(text: bytes) -> bytes:
    """Return a text without what is no Lua at its beginning: the mark of UTF-8, the line of an interpreter."""
    text = text.removeprefix(b"\xef\xbb\xbf")
    if text.startswith(b"#"):
        end = text.find(b"\n")
        return b"" if end < 0 else text[end:]
    return text
