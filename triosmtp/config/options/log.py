"""The files of a Log scope."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from pathlib import Path
from typing import Literal, TypeAlias

from attrs import frozen

from triosmtp.config.option import GLOBAL, LOG, option
from triosmtp.config.value import BOOLEAN, PATH, choice

__all__ = ["LogOptions"]

LogFormat: TypeAlias = Literal["auto", "text", "json"]

_LOG_FORMATS: tuple[LogFormat, ...] = ("auto", "text", "json")


@frozen(slots=False, kw_only=True)
class LogOptions:
    """The files of a Log scope."""

    path: Path | None = option(
        "Path",
        PATH,
        None,
        "File that a mainlog, rejectlog or acctlog is appended to, in Momentum's form; it is opened anew on SIGHUP.",
        scopes=(LOG,),
    )
    log_hires_timestamp: bool = option(
        "Log_Hires_Timestamp",
        BOOLEAN,
        False,
        "Whether the time in mainlog, rejectlog and acctlog has microseconds.",
        scopes=(GLOBAL,),
    )
    format: LogFormat = option(
        "Format",
        choice(_LOG_FORMATS),
        "auto",
        'Form of Log "stderr": text, json, or auto: text on a terminal, otherwise a JSON object on each line.',
        scopes=(LOG,),
    )
