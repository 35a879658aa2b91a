"""Debian's postgrey and policyd-spf."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from mail_client import need
from policy_server import wait_until

__all__ = ["policyd_spf", "postgrey"]


@contextmanager
def postgrey(folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run postgrey with a delay of one second; its socket is ``postgrey``."""
    program = need("postgrey")
    (folder / "db").mkdir(exist_ok=True)
    place = folder / "postgrey"
    place.unlink(missing_ok=True)
    command = [program, f"--unix={place}", f"--dbdir={folder}/db", "--user=root", "--group=root", "--delay=1", *options]
    with (
        (folder / "postgrey.log").open("ab") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            wait_until(folder, lambda: place.exists() or process.poll() is not None)
            yield process
        finally:
            process.kill()


@contextmanager
def policyd_spf(folder: Path) -> Iterator[Path]:
    """Run policyd-spf for each connection, as Postfix's spawn(8) does."""
    program = need("policyd-spf")
    (folder / "spf.conf").write_text("debugLevel = 1\nskip_addresses = 127.0.0.0/8\n")
    place = folder / "spf"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(place))
    server.listen()
    children: list[subprocess.Popen[bytes]] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                command = [program, str(folder / "spf.conf")]
                children.append(
                    subprocess.Popen(
                        command, stdin=connection.fileno(), stdout=connection.fileno(), stderr=subprocess.DEVNULL
                    )
                )

    thread = Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield place
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(30)
        for child in children:
            child.kill()
            child.wait()
