"""Options of a Log scope."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from pathlib import Path
from typing import Literal, TypeAlias, get_args

from attrs import frozen

from triosmtp.config.option import GLOBAL, LOG, option
from triosmtp.config.types.option_type import BOOLEAN, PATH, choice

__all__ = ["LogOptions"]

LogFormat: TypeAlias = Literal["auto", "text", "json"]

Facility: TypeAlias = Literal[
    "mail", "user", "daemon", "auth", "authpriv", "cron", "ftp", "news", "uucp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
]  # fmt: skip

_FACILITIES: tuple[Facility, ...] = get_args(Facility)
_LOG_FORMATS: tuple[LogFormat, ...] = ("auto", "text", "json")


@frozen(slots=False, kw_only=True)
class LogOptions:
    """The files of a Log scope."""

    path: Path | None = option(
        "Path",
        PATH,
        None,
        'File of a mainlog, rejectlog or acctlog, in Momentum\'s form; SIGHUP opens it again. Of Log "syslog": the '
        "datagram socket of the syslog daemon; unset: /dev/log.",
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
        'Form of Log "stderr": text, json, or auto: text on a terminal, otherwise a JSON object on each line. Of Log '
        '"syslog": text, json, or auto: text.',
        scopes=(LOG,),
    )
    facility: Facility = option(
        "Facility",
        choice(_FACILITIES),
        "mail",
        'Facility of Log "syslog".',
        scopes=(LOG,),
    )
