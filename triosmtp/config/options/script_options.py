"""Options of Momentum's policy scripts: the scopes scriptlet and script."""

from pathlib import Path

from attrs import frozen

from triosmtp.config.option import SCRIPT, SCRIPTLET, option
from triosmtp.config.types.option_type import LIMIT, PATH, TEXT, list_of

__all__ = ["ScriptOptions"]


@frozen(slots=False, kw_only=True)
class ScriptOptions:
    """Scripts in Lua."""

    source: str | None = option(
        "Source",
        TEXT,
        None,
        "The Lua module of a script, as for require(): a.b is the file a/b.lua; or the absolute path of a file. Those "
        "of Momentum itself (msys.…) have no effect.",
        scopes=(SCRIPT,),
    )
    script_path: tuple[Path, ...] = option(
        "Script_Path",
        list_of(PATH, "list of folders"),
        (),
        "Folders in which modules of scripts are looked for, behind the folder of the configuration. Scripts may read "
        "the files of these folders.",
        scopes=(SCRIPTLET,),
    )
    script_max_instructions: int = option(
        "Script_Max_Instructions",
        LIMIT,
        20_000_000,
        "Instructions of Lua that a script may use for one callout; beyond it the session ends with 421.",
        scopes=(SCRIPTLET,),
    )
    script_max_memory: int = option(
        "Script_Max_Memory",
        LIMIT,
        67_108_864,
        "Bytes of memory that all scripts of one process may use together.",
        scopes=(SCRIPTLET,),
    )
