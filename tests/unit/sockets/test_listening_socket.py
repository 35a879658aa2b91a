"""The path of a Unix socket: its mode, its end, and another server at the same path."""

import socket
import stat
from pathlib import Path

import pytest
from listen_server import conf, connect, serving

from triosmtp import ConfigError


async def test_a_unix_socket_has_its_mode_and_is_removed_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    async with serving(conf(listen=str(path), body="File_Mode = 0640")) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        client = await connect(server, str(path))
        assert (await client.read()).code == 220
        await client.command("EHLO c.example.org")
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
        await client.aclose()
    assert not path.exists()


async def test_a_unix_socket_that_another_server_took_over_stays(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    with socket.socket(socket.AF_UNIX) as other:
        async with serving(conf(listen=str(path))):
            path.rename(tmp_path / "old.sock")
            other.bind(str(path))
        assert path.exists()


async def test_a_stale_unix_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(conf(listen=str(path))) as server:
        assert (await (await connect(server, str(path))).read()).code == 220
    path.write_text("precious")
    with pytest.RaisesGroup(ConfigError, allow_unwrapped=True, flatten_subgroups=True):
        async with serving(conf(listen=str(path))):
            pass
    assert path.read_text() == "precious"
