"""Options of the process: user, privileges and shutdown."""

from attrs import frozen

from triosmtp.config.option import GLOBAL, SECURITY, option
from triosmtp.config.types.option_type import SECONDS
from triosmtp.config.types.security_types import ACCOUNT, CAPABILITIES

__all__ = ["ProcessOptions"]


@frozen(slots=False, kw_only=True)
class ProcessOptions:
    """User, privileges and shutdown of the process."""

    drain_timeout: float = option(
        "Drain_Timeout",
        SECONDS,
        30.0,
        "Seconds in which open transactions must finish after `triosmtp serve` was asked to stop.",
        scopes=(GLOBAL,),
    )
    user: str | None = option(
        "User",
        ACCOUNT,
        None,
        "Name or number of the user that `triosmtp serve` becomes if root has started it.",
        scopes=(SECURITY,),
        reloadable=False,
    )
    group: str | None = option(
        "Group",
        ACCOUNT,
        None,
        "Name or number of its group; unset: the user's own. The user's supplementary groups are added.",
        scopes=(SECURITY,),
        reloadable=False,
    )
    capabilities: frozenset[str] = option(
        "Capabilities",
        CAPABILITIES,
        frozenset(),
        "The privileges of root that are kept, in the form of cap_from_text(3): cap_net_bind_service+ep, for ports "
        "below 1024 after a reload, or nothing.",
        scopes=(SECURITY,),
        reloadable=False,
    )
