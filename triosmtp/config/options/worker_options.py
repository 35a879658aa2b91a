"""Options of the worker processes."""

from attrs import frozen

from triosmtp.config.option import GLOBAL, option
from triosmtp.config.types.option_type import WORKERS

__all__ = ["WorkerOptions"]


@frozen(slots=False, kw_only=True)
class WorkerOptions:
    """The processes of the service."""

    workers: int | None = option(
        "Workers",
        WORKERS,
        1,
        "Processes that serve the sessions of `triosmtp serve`; auto is one for each core. With 1 there is one "
        "process in total; with more, a further one opens the sockets and does the rest.",
        scopes=(GLOBAL,),
        reloadable=False,
    )
