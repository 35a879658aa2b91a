"""Health follows delivery: readiness, new sessions, metrics, the page; with the next hop of a real server."""

import os
from pathlib import Path

import pytest
import trio
from scripted_hop import ScriptedHop, listening
from serve_process import LineClient
from status_server import STATUS, Serving, daemon, get, serving

from triosmtp.commands import top_screen
from triosmtp.delivery import target_watch
from triosmtp.status.overview import Overview
from triosmtp.status.status_source import ServerSource

MAIL = """
    Relay_Domains = ( "*example.com" )  Deliver_To = "hop"  Domain "elsewhere.example.com" {{ Deliver_To = "second" }}
    Delivery "hop" {{ Deliver_To = "lmtp:{folder}/hop" Delivery_Grace = 0.05 }}
    Delivery "second" {{ Deliver_To = "lmtp:{folder}/second" Delivery_Grace = 0.05 }}
    ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
"""


async def until_ready(here: Serving, wanted: int) -> str:
    """Ask until /readyz has this status; return its text."""
    with trio.fail_after(20):
        while True:
            answer = await get(here.port, "/readyz")
            if answer.status == wanted:
                return answer.body
            await trio.sleep(0.01)


async def test_a_target_that_is_away_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_watch, "MIN_PROBE_DELAY", 0.02)
    monkeypatch.setattr(target_watch, "MAX_PROBE_DELAY", 0.05)
    async with serving(MAIL.format(folder=tmp_path) + STATUS) as here:
        assert await until_ready(here, 503) == "target not available: hop\n"
        async with await trio.open_tcp_stream("127.0.0.1", here.mail_port) as client:
            assert bytes(await client.receive_some()).startswith(b"421 ")
        await here.reload(MAIL.format(folder=tmp_path) + STATUS)
        assert (await get(here.port, "/readyz")).status == 503  # a reload mends nothing
        metrics = (await get(here.port, "/metrics")).body
        assert 'triosmtp_target_available{target="hop"} 0.0\n' in metrics
        assert 'triosmtp_target_available{target="second"} 0.0\n' in metrics
        assert "triosmtp_ready 0.0\n" in metrics
        overview = await Overview().gather(ServerSource(here.server))
        hop = next(each for each in overview["targets"] if each["name"] == "hop")
        assert hop["required"]
        assert str(tmp_path / "hop") in hop["reason"]
        assert any(line.startswith("hop: NOT AVAILABLE for ") for line in top_screen.render(overview, 120, 24))
        async with listening(ScriptedHop(lmtp=True), tmp_path / "hop"):
            assert await until_ready(here, 200) == "ok\n"  # although the target of a domain is away
            assert await trio.to_thread.run_sync(_reply_to_recipients, here.mail_port) == ("250", "451")
        metrics = (await get(here.port, "/metrics")).body
        assert 'triosmtp_target_available{target="hop"} 1.0\n' in metrics
        assert 'triosmtp_target_answers_total{class="2xx",target="hop"} 1.0\n' in metrics
        assert 'triosmtp_target_answers_total{class="4xx",target="second"} 1.0\n' in metrics


def _reply_to_recipients(port: int) -> tuple[str, str]:
    with LineClient(port) as client:
        client.read()
        client.ask("HELO client.example")
        client.ask("MAIL FROM:<a@example.org>")
        return (
            client.ask("RCPT TO:<u@example.com>")[:3],
            client.ask("RCPT TO:<u@elsewhere.example.com>")[:3],
        )


def test_workers_report_it_to_their_supervisor(tmp_path: Path) -> None:
    with daemon(tmp_path, f"Workers = 2 {MAIL.format(folder=tmp_path)} {STATUS}") as here:
        mail, port = here.port('Listen "127.0.0.1:0"'), here.port('Status Listen "127.0.0.1:0"')
        assert trio.run(_not_ready, port) == "target not available: hop\n"
        here.wait_for_log("target=hop")
        with LineClient(mail) as client:
            assert client.read().startswith("421 ")
        for pid in _workers_of(here.process.pid):
            os.kill(pid, 9)
        assert trio.run(_not_ready, port) == "target not available: hop\n"  # the new ones find it out, too


async def _not_ready(port: int) -> str:
    with trio.fail_after(20):
        while True:
            answer = await get(port, "/readyz")
            if answer.status == 503 and "target" in answer.body:
                return answer.body
            await trio.sleep(0.02)


def _workers_of(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
