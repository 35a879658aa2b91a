"""Messages in recordings of the policy service."""

from policy_stage import LOCAL, Stage

from triosmtp.policy_client import Notification, PolicyClient
from triosmtp.policy_service.hub import ClientAccess
from triosmtp.testing import ScriptedClient


def body_of(size: int) -> bytes:
    """Return a message of that many octets, whose lines say where they stand."""
    start = b"Subject: x\r\n\r\n"
    rest = size - len(start)
    lines = b"".join(b"%015d\r\n" % at for at in range(rest // 17))
    last = rest % 17
    return (
        start
        + lines[: -17 if last == 1 else None]
        + (b"x" * (16 if last == 1 else last - 2) + b"\r\n" if last else b"")
    )


async def sent(session: ScriptedClient, body: bytes) -> str:
    return str(await session.message("a@example.org", ["you@example.com"], body))


async def recorded(
    stage: Stage, access: ClientAccess = LOCAL, *, bodies: bool, token: str = "a" * 16
) -> list[Notification]:
    notes: list[Notification] = []
    client = PolicyClient("unix:/memory", name="watcher", token=token, bodies=bodies)

    @client.notification("session.phase")
    async def note(each: Notification) -> None:
        notes.append(each)

    await stage.attach(client, access)
    return notes
