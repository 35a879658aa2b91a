"""Options of policy and of the spool."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from attrs import frozen

from triosmtp.config.option import FILTER, POLICY, STATUS, WITH_FILTER, option
from triosmtp.config.types.option_type import LIMIT, PATH, SECONDS, TEXT, choice
from triosmtp.config.types.policy_grammar import ADDRESS_SCHEMES, forms_of
from triosmtp.config.types.policy_types import CONNECT_TO, FALLBACK_PHASES, FILTER_PHASES, POLICIES

__all__ = ["PolicyOptions"]

Fallback: TypeAlias = Literal["tempfail", "continue", "reject"]

_FALLBACKS: tuple[Fallback, ...] = ("tempfail", "continue", "reject")


@frozen(slots=False, kw_only=True)
class PolicyOptions:
    """Policy, and the spool."""

    policy: tuple[str, ...] = option(
        "Policy",
        POLICIES,
        (),
        "Policies that are asked at each phase, in this order: python:package.module:Name, also from the "
        "configuration's folder; websocket:group, whose deciders connect to a Policy_Listener; milter:unix:/path or "
        "milter:inet:host:port, a milter; policyd:unix:/path or policyd:inet:host:port, a Postfix policy service, "
        "asked at RCPT; filter:name, a Filter scope; lua, the scripts of the stanza scriptlet, asked first if the word "
        "is missing.",
    )
    policy_timeout: float = option(
        "Policy_Timeout",
        SECONDS,
        5.0,
        "Seconds that a policy outside of the server has for each decision; a milter for each step, and ten times as "
        "many for the end of a message.",
        scopes=WITH_FILTER,
    )
    policy_fallback: Fallback = option(
        "Policy_Fallback",
        choice(_FALLBACKS),
        "tempfail",
        "The result if a policy outside of the server has no answer: tempfail (451), continue, or reject (550).",
        scopes=WITH_FILTER,
    )
    policy_fallback_phases: Mapping[str, Fallback] = option(
        "Policy_Fallback_Phases",
        FALLBACK_PHASES,
        {},
        "Policy_Fallback for single phases, as [ connect = continue ].",
        scopes=WITH_FILTER,
    )
    connect_to: str | None = option(
        "Connect_To",
        CONNECT_TO,
        None,
        f"Address of the filter: {forms_of(ADDRESS_SCHEMES)}.",
        scopes=(FILTER,),
    )
    phases: tuple[str, ...] = option(
        "Phases",
        FILTER_PHASES,
        ("rcptto",),
        "Phases at which a policy service is asked: connect, ehlo, mailfrom, rcptto, data, data_spool. A milter says "
        "itself which steps it wants; rspamd is asked at data_spool.",
        scopes=(FILTER,),
    )
    password_file: Path | None = option(
        "Password_File",
        PATH,
        None,
        "File that contains only the password of rspamd, which a filter with rspamd: sends.",
        scopes=(FILTER,),
    )
    settings_id: str | None = option(
        "Settings_ID",
        TEXT,
        None,
        "The id of the settings that rspamd applies to the messages, for a filter with rspamd:.",
        scopes=(FILTER,),
    )
    token_file: Path | None = option(
        "Token_File",
        PATH,
        None,
        "File that contains only the token of policy clients, which may observe and decide; or of clients that read "
        "metrics and the status page.",
        scopes=(*POLICY, *STATUS),
    )
    admin_token_file: Path | None = option(
        "Admin_Token_File",
        PATH,
        None,
        "File that contains only the token of policy clients that may also close sessions, set variables and reload.",
        scopes=POLICY,
    )
    body_limit: int = option(
        "Body_Limit",
        LIMIT,
        1024 * 1024,
        "Octets of a message that a decider may request at data_spool. 0: none.",
        scopes=POLICY,
    )
    spool_directory: Path | None = option(
        "Spool_Directory", PATH, None, "Folder for the bodies of messages while they arrive."
    )
    spool_max_size: int = option(
        "Spool_Max_Size",
        LIMIT,
        4294967296,
        "Bytes of all spool files together; one address may use a quarter, and with Workers each has an equal part. "
        "Beyond it 452. 0: unlimited.",
    )
    spool_min_free: int = option(
        "Spool_Min_Free",
        LIMIT,
        0,
        "Bytes that stay free on the file system of the spool; below it 452. With any value, a message whose SIZE "
        "does not fit there is refused at MAIL.",
    )
