"""Options of metrics and the status page."""

from attrs import frozen

from triosmtp.config.option import STATUS, option
from triosmtp.config.types.option_type import HOSTNAME, list_of

__all__ = ["StatusOptions"]


@frozen(slots=False, kw_only=True)
class StatusOptions:
    """Metrics and the status page."""

    host_names: tuple[str, ...] = option(
        "Host_Names",
        list_of(HOSTNAME, "list of host names"),
        (),
        "Names under which the status page may be requested, in addition to localhost and the address of its Listen. "
        "Other names are refused, because a hostile web site could point its name here.",
        scopes=STATUS,
    )
