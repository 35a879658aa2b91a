"""The life of the process: as whom it serves, and how it ends."""

from attrs import frozen

from triosmtp.config.option import GLOBAL, SECURITY, option
from triosmtp.config.types.capability import ACCOUNT, CAPABILITIES
from triosmtp.config.types.value import SECONDS

__all__ = ["LifeOptions"]


@frozen(slots=False, kw_only=True)
class LifeOptions:
    """The life of the process: as whom it serves, and how it ends."""

    drain_timeout: float = option(
        "Drain_Timeout",
        SECONDS,
        30.0,
        "Seconds that transactions under way have to be finished in when `triosmtp serve` is told to end.",
        scopes=(GLOBAL,),
    )
    user: str | None = option(
        "User",
        ACCOUNT,
        None,
        "Name or number of the user that `triosmtp serve` becomes where root has started it.",
        scopes=(SECURITY,),
        reloadable=False,
    )
    group: str | None = option(
        "Group",
        ACCOUNT,
        None,
        "Name or number of its group; unset: the user's own. Those that the user is a member of come with it.",
        scopes=(SECURITY,),
        reloadable=False,
    )
    capabilities: frozenset[str] = option(
        "Capabilities",
        CAPABILITIES,
        frozenset(),
        "What is kept of root's rights, as cap_from_text(3) reads it: cap_net_bind_service+ep, for ports below 1024 "
        "after a reload, or nothing.",
        scopes=(SECURITY,),
        reloadable=False,
    )
