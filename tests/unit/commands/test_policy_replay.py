"""`triosmtp policy replay`: recordings, and what deciders answer now."""

import json
import signal
import stat
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from policy_server import ENVIRONMENT, TOKEN, Service, deciding, running, wait_until
from serve_process import COMMAND


def policy(*words: str) -> list[str]:
    return [*COMMAND, "policy", *words]


def test_record_then_replay(tmp_path: Path) -> None:
    service = Service(tmp_path, "Policy_Fallback = continue")
    recording = tmp_path / "sessions.jsonl"
    with service.serving() as server:
        recorder = policy("record", "-o", str(recording), "--url", service.url, "--token-file", str(tmp_path / "token"))
        with (
            running(deciding(service, tmp_path, refuse="bad"), tmp_path, "decider") as decider,
            running(recorder, tmp_path, "record") as record,
        ):
            decider.until("ready")
            wait_until(tmp_path, lambda: "name=record" in server.log)
            with service.smtp() as session:
                assert session.one("good@example.org")[0] == 250
                assert session.one("bad@example.org")[0] == 550
            wait_until(tmp_path, lambda: "session.closed" in recording.read_text())
            assert record.end(signal.SIGINT) == 0
            assert "0 notifications lost" in record.log
    assert stat.S_IMODE(recording.stat().st_mode) == 0o600
    for refuse, status, said in (("bad", 0, "2 phases the same, 0 differ"), ("good", 1, "0 phases the same, 2 differ")):
        path = tmp_path / f"{refuse}.sock"
        replay = policy("replay", str(recording), "--listen", str(path), "--group", "fraud")
        with running(replay, tmp_path, f"replay_{refuse}") as program:
            wait_until(tmp_path, lambda: "waiting at" in program.log)
            with running(deciding(service, tmp_path, refuse=refuse, url=f"unix:{path}"), tmp_path, "again"):
                lines = [program.line() for _ in range(1 + 2 * status)]
                assert program.process.wait(30) == status
            # The other phases were answered with continue, for nobody registered them.
            assert said.split(",")[1].strip() in lines[-1]
            if status:
                assert any(
                    "mailfrom: was refused 550 5.7.1 by websocket:fraud/script; now continue" in line for line in lines
                )
        assert not path.exists()


READER = """
import sys, trio
from triosmtp import Reject
from triosmtp.policy_client import PolicyClient

client = PolicyClient(sys.argv[1], name="reader", group="fraud")

@client.on("data_spool")
async def check(request):
    body = await request.read_body()
    if body.data.endswith(b"the last line\\r\\n") and not body.truncated:
        raise Reject(550, "5.7.1", f"seen {body.size}")

async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        print("ready", flush=True)

trio.run(main)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_messages_are_recorded_if_asked_for_and_replayed(tmp_path: Path, workers: int) -> None:
    service = Service(tmp_path, f"Workers = {workers}")
    (tmp_path / "reader.py").write_text(READER)
    recordings = {"plain": ["--token-file", "token"], "full": ["--bodies", "--token-file", "admin"]}
    text = b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n" + b"z" * 70 + b"\r\n"
    message = text + b"w" * 100 + b"\r\n" + (b"v" * 998 + b"\r\n") * 800 + b"the last line\r\n"  # in a file
    socket = f"unix:{tmp_path}/policy.sock"
    with service.serving() as server, ExitStack() as stack:
        reader = stack.enter_context(running([COMMAND[0], "reader.py", socket], tmp_path, "reader"))
        for name, more in recordings.items():
            command = policy("record", "-o", f"{name}.jsonl", "--url", socket, *more)
            stack.enter_context(running(command, tmp_path, name))
        reader.until("ready")
        wait_until(tmp_path, lambda: server.log.count("name=record") == 2)
        with service.smtp() as session:
            session.mail("a@example.org")
            session.rcpt("you@example.com")
            assert session.data(message) == (550, b"5.7.1 seen %d" % len(message))
        for name in recordings:
            wait_until(tmp_path, lambda name=name: "session.closed" in (tmp_path / f"{name}.jsonl").read_text())  # type: ignore[misc]
    assert '"body"' not in (tmp_path / "plain.jsonl").read_text()
    # With the message a decider decides as it did; without it there is nothing to ask for.
    for name, failed in (("full", 0), ("plain", 1)):
        path = tmp_path / f"{name}.sock"
        command = policy("replay", f"{name}.jsonl", "--listen", str(path), "--group", "fraud", "--json")
        with running(command, tmp_path, f"replay_{name}") as program:
            wait_until(tmp_path, lambda: "waiting at" in program.log)
            with running([COMMAND[0], "reader.py", f"unix:{path}"], tmp_path, "again"):
                rows = [json.loads(program.line())]
                while "summary" not in rows[-1]:
                    rows.append(json.loads(program.line()))
        assert rows[-1]["summary"]["failed"] == failed
        assert ["data_spool" for row in rows if row.get("phase") == "data_spool"] == ["data_spool"] * failed


def test_a_damaged_recording_is_told_with_its_line(tmp_path: Path) -> None:
    recording = tmp_path / "x.jsonl"
    for text, said in (
        ("{}\n", ":1: this is no recording"),
        ('{"format":"triosmtp-policy-recording","version":1}\n{\n', ":2: "),
        (
            '{"format":"triosmtp-policy-recording","version":1}\n{"method":"session.phase","phase":"x"}\n',
            ":2: the phase.phase",
        ),
    ):
        recording.write_text(text)
        done = subprocess.run(
            policy("replay", str(recording), "--listen", str(tmp_path / "s"), "--group", "g"),
            env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 64
        assert f"{recording}{said}" in done.stderr


def test_a_replay_to_which_nobody_comes_ends(tmp_path: Path) -> None:
    recording = tmp_path / "x.jsonl"
    recording.write_text('{"format":"triosmtp-policy-recording","version":1}\n')
    (tmp_path / "token").write_text(TOKEN)
    words = ["--listen", "127.0.0.1:0", "--group", "g", "--token-file", str(tmp_path / "token"), "--timeout", "0.2"]
    replay = policy("replay", str(recording), *words)
    done = subprocess.run(replay, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 69
    assert "no decider of g came within 0.2 s" in done.stderr
