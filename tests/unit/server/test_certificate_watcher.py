"""The watch of the certificate files: it is started again after an error."""

import logging
from functools import partial
from pathlib import Path

import pytest
import trio

import triosmtp
from triosmtp.message import Message
from triosmtp.server import certificate_watcher
from triosmtp.testing import Authority, ScriptedClient

CONFIGURATION = """
ESMTP_Listener {{
  Listen "127.0.0.1:0" {{
    TLS_Certificate = "{folder}/server.pem"
    TLS_Key = "{folder}/server.key"
    SMTP_Extensions = ( "STARTTLS" )
  }}
}}
"""


async def drop(message: Message) -> None:
    return None


async def test_a_watch_that_fails_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Authority.create().issue("localhost", dns=["localhost"]).write(tmp_path, "server")
    again = trio.Event()
    runs = 0

    async def failing(*_: object, task_status: trio.TaskStatus[None]) -> None:
        nonlocal runs
        runs += 1
        task_status.started()
        if runs == 1:
            raise OSError("no more inotify instances")
        again.set()
        await trio.sleep_forever()

    monkeypatch.setattr(certificate_watcher, "watch_certificates", failing)
    monkeypatch.setattr(certificate_watcher, "_RETRY_SECONDS", 0)
    config = triosmtp.parse_config(CONFIGURATION.format(folder=tmp_path))
    with caplog.at_level(logging.ERROR, "triosmtp.server"):
        async with trio.open_nursery() as nursery:
            server: triosmtp.Server = await nursery.start(partial(triosmtp.serve, config, deliver=drop))
            await again.wait()
            client = ScriptedClient(await trio.open_tcp_stream(*server.addresses["127.0.0.1:0"]))
            assert (await client.read()).code == 220
            await client.aclose()
            nursery.cancel_scope.cancel()
    assert "certificates are not watched" in caplog.text
    assert "no more inotify instances" in caplog.text
