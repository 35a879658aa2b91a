"""The entry point of a worker process: handle signals first, because the imports take half a second.

A terminal sends SIGINT to every process of the service, and systemd sends SIGTERM.  The supervisor handles them, and a
worker ends when the supervisor tells it to.
"""

import signal

__all__ = ["main"]


def main() -> None:
    """Ignore the signals of the service, import the worker and run it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ignore)  # not SIG_IGN, which the children of a policy would inherit
    from triosmtp.workers.worker import main as run_worker  # noqa: PLC0415 - after the signals

    run_worker()


def _ignore(_number: int, _frame: object) -> None:
    pass


if __name__ == "__main__":
    main()
