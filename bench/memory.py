"""`python -m bench.memory`: what an idle TLS connection costs in memory, and a large message while it arrives.

Idle: resident memory of the server's process tree before and after so many connections said EHLO after STARTTLS and
were left alone.  In flight: the highest resident memory while one message of 50 MB arrived, above what it was before.
"""

import argparse
import os
import resource

from bench.client import Client, Credentials, connect, make_context, make_message
from bench.process import LOAD_CPU, Server
from bench.rival import RIVALS, open_rival
from bench.scenario import SCENARIOS

__all__ = ["main"]

_SCENARIO = SCENARIOS["De"]
_LARGE = 50_000_000


def _idle(server: Server, credentials: Credentials, sessions: int) -> float:
    """Give octets per idle TLS connection."""
    context = make_context(_SCENARIO, credentials)
    connect(server.port, context).quit()
    before = server.memory()
    clients: list[Client] = []
    try:
        clients.extend(connect(server.port, context) for _ in range(sessions))
        return (server.memory() - before) / sessions
    finally:
        for client in clients:
            client.close()


def _in_flight(server: Server) -> int:
    """Give octets above the rest while one large message arrives in plaintext."""
    connect(server.port, None).quit()
    before = server.memory()
    client = connect(server.port, None)
    client.deliver(make_message(_LARGE) + b".\r\n")
    client.quit()
    return server.memory("VmHWM") - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory")
    parser.add_argument("--rivals", default="aiosmtpd,triosmtp", metavar="NAME,…")
    parser.add_argument("--sessions", type=int, default=1000)
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CPU})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for name in options.rivals.split(","):
        with open_rival(RIVALS[name], _SCENARIO) as (server, credentials):
            idle = _idle(server, credentials, options.sessions)
        with open_rival(RIVALS[name], _SCENARIO) as (server, _):
            flight = _in_flight(server)
        print(f"{name}: {idle / 1024:.1f} KiB per idle TLS connection ({options.sessions} of them)")
        print(f"{name}: {flight / 2**20:.1f} MiB more at most while a message of 50 MB arrives")


if __name__ == "__main__":
    main()
