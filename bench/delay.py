"""A TCP proxy that delays: `python -m bench.delay PORT TARGET_PORT MILLISECONDS`, those of a round trip."""

import asyncio
import sys

__all__ = ["main"]


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    while data := await reader.read(262_144):
        loop.call_later(seconds, writer.write, data)
    loop.call_later(seconds, writer.close)


async def _serve(port: int, target: int, seconds: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other, there = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(_pass_on(reader, there, seconds), _pass_on(other, writer, seconds))

    async with await asyncio.start_server(connected, "127.0.0.1", port) as server:
        print("listening", flush=True)
        await server.serve_forever()


def main() -> None:
    """Listen, and serve until killed."""
    port, target, milliseconds = sys.argv[1:]
    asyncio.run(_serve(int(port), int(target), float(milliseconds) / 2000))


if __name__ == "__main__":
    main()
