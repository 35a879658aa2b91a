"""`python -m bench.script_cost`: what a policy at MAIL costs for each message: in Lua, in Python, and none.

Processor time of client and server in one process over memory streams, without TLS and without a disk.  The three take
turns in one run, so that the differences between them are those of the policies.
"""

import argparse
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final

import trio

from triosmtp import Policy, Reject
from triosmtp.config import load_config
from triosmtp.message import Message
from triosmtp.testing.memory_server import open_memory_server
from triosmtp.testing.scripted_client import ScriptedClient

_SCRIPT: Final = """
require("msys.core"); local mod, core = {}, msys.core
local strict = { ["bank.example"] = true, ["clearing.example"] = true }
function mod:validate_mailfrom(str, ac, vctx)
  local domain = string.lower(vctx:get(core.VCTX_MESS, "mailfrom_domain"))
  if not strict[domain] then return core.VALIDATE_CONT end
  if vctx:get(core.VCTX_CONN, "tls") ~= "on" then vctx:set_code(530, "5.7.0 " .. domain .. " is taken over TLS only")
  elseif vctx:get(core.VCTX_CONN, "tls_client_verified") != "yes" then vctx:set_code("550", "5.7.1 no verified certificate for " .. domain)
  else return core.VALIDATE_CONT end
  return core.VALIDATE_DONE
end
msys.registerModule("sender_cert", mod)
"""  # noqa: E501 - as its author wrote it
_LISTEN: Final = 'Relay_Domains = ( "example.net" ) ESMTP_Listener { Listen "127.0.0.1:2525" { } }\n'
_STANZA: Final = 'scriptlet "scriptlet" { script "sender_cert" { source = "sender_cert" } }\n'
_COMMANDS: Final = ("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "DATA")
_BODY: Final = b"Subject: a\r\n\r\n" + b"x" * 500 + b"\r\n.\r\n"


class SenderCertificate(Policy):
    """The rule of the script."""

    async def validate_mailfrom(self, session, sender, parameters):  # type: ignore[no-untyped-def]  # noqa: ARG002, D102
        if sender.domain.lower() not in {"bank.example", "clearing.example"}:
            return
        if session.variables.get("tls") != "on":
            raise Reject(530, "5.7.0", f"{sender.domain} is taken over TLS only")
        if session.variables.get("tls_client_verified") != "yes":
            raise Reject(550, "5.7.1", f"no verified certificate for {sender.domain}")


async def _messages(client: ScriptedClient, count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        for command in _COMMANDS:
            await client.command(command)
        await client.send(_BODY)
        await client.read()
    return (time.process_time() - began) / count * 1e6


async def _discard(_message: Message) -> None:
    """Take a message."""


async def measure(rounds: int, count: int) -> dict[str, float]:
    """Return the microseconds for each message: the median of the rounds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sender_cert.lua").write_text(_SCRIPT)
        (folder / "lua.conf").write_text(_LISTEN + _STANZA)
        (folder / "plain.conf").write_text(_LISTEN)
        async with AsyncExitStack() as stack:
            clients = {}
            for kind, file, policy in (
                ("none", "plain", None), ("Python", "plain", SenderCertificate()), ("Lua", "lua", None),
            ):  # fmt: skip
                server = await stack.enter_async_context(
                    open_memory_server(load_config(folder / f"{file}.conf"), policy=policy, deliver=_discard)
                )
                clients[kind] = client = server.connect()
                await client.read()
                await client.command("EHLO client.example.org")
            found: dict[str, list[float]] = {kind: [] for kind in clients}
            for _ in range(rounds + 1):
                for kind, client in clients.items():
                    found[kind].append(await _messages(client, count))
            for client in clients.values():
                await client.aclose()
            return {kind: median(times[1:]) for kind, times in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.script_cost", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--messages", type=int, default=300, help="messages of a round")
    options = parser.parse_args()
    found = trio.run(measure, options.rounds, options.messages)
    for kind, microseconds in found.items():
        print(f"{kind:<8}{microseconds:8.1f} us for each message{microseconds - found['none']:+8.1f}")


if __name__ == "__main__":
    main()
