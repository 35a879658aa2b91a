"""Policy and delivery."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from attrs import frozen

from triosmtp.config.option import POLICY, STATUS, option
from triosmtp.config.types.specification import DELIVERY, FALLBACK_PHASES, POLICIES
from triosmtp.config.types.value import LIMIT, PATH, SECONDS, choice

__all__ = ["PolicyOptions"]

Fallback: TypeAlias = Literal["tempfail", "continue", "reject"]

_FALLBACKS: tuple[Fallback, ...] = ("tempfail", "continue", "reject")


@frozen(slots=False, kw_only=True)
class PolicyOptions:
    """Policy and delivery."""

    policy: tuple[str, ...] = option(
        "Policy",
        POLICIES,
        (),
        "Policies that are asked at each phase, in this order: python:package.module:Name, "
        "importable from the configuration's folder too; websocket:group, whose deciders come to a Policy_Listener.",
    )
    policy_timeout: float = option(
        "Policy_Timeout", SECONDS, 5.0, "Seconds that deciders of a websocket: policy have for each decision."
    )
    policy_fallback: Fallback = option(
        "Policy_Fallback",
        choice(_FALLBACKS),
        "tempfail",
        "What is done where a websocket: policy gives no answer: tempfail (451), continue, or reject (550).",
    )
    policy_fallback_phases: Mapping[str, Fallback] = option(
        "Policy_Fallback_Phases",
        FALLBACK_PHASES,
        {},
        "Policy_Fallback at single phases, as [ connect = continue ].",
    )
    token_file: Path | None = option(
        "Token_File",
        PATH,
        None,
        "File that holds the token of policy clients, who may listen and decide, or of those who look at metrics and "
        "the status page; and nothing else.",
        scopes=(*POLICY, *STATUS),
    )
    admin_token_file: Path | None = option(
        "Admin_Token_File",
        PATH,
        None,
        "File that holds the token of policy clients that may also close sessions, set variables and reload.",
        scopes=POLICY,
    )
    body_limit: int = option(
        "Body_Limit",
        LIMIT,
        1024 * 1024,
        "Octets of a message that a decider may ask for at data_spool. 0: none.",
        scopes=POLICY,
    )
    deliver_to: str | None = option(
        "Deliver_To",
        DELIVERY,
        None,
        "Where accepted mail goes: maildir:/path, discard:, or python:package.module:function, an async function of "
        "one argument, importable from the configuration's folder too. Unset: a Maildir in the state folder.",
    )
    spool_directory: Path | None = option(
        "Spool_Directory", PATH, None, "Folder that holds the bodies of messages while they arrive."
    )
    spool_max_size: int = option(
        "Spool_Max_Size",
        LIMIT,
        4294967296,
        "Bytes that all spool files may hold, a quarter of it for one address, with Workers an equal part in each; "
        "beyond it 452. 0: unlimited.",
    )
    spool_min_free: int = option(
        "Spool_Min_Free",
        LIMIT,
        0,
        "Bytes that bodies leave free on the file system of the spool; below it 452. Whatever it is, a message whose "
        "SIZE does not fit there is refused at MAIL.",
    )
