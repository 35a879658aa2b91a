"""`triosmtp policy`: watching notifications, and the report of deciders in shadow mode."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from policy_server import ENVIRONMENT, Service, deciding, running, wait_until
from serve_process import COMMAND


def policy(*words: str) -> list[str]:
    return [*COMMAND, "policy", *words]


def test_watch_tells_what_happens_and_filters(tmp_path: Path) -> None:
    service = Service(tmp_path, "Policy_Fallback = continue")
    with service.serving() as server:
        unix = ["-c", str(service.conf)]  # prefers the Unix socket
        shown = policy("watch", *unix, "--filter", "method=session.*", "--filter", "peer=127.0.0.1:*")
        unverified = policy(
            "watch", "--url", service.url, "--token-file", "token", "--json", "--filter", "tls_client_verified=no"
        )
        with running(shown, tmp_path, "shown") as first, running(unverified, tmp_path, "json") as second:
            wait_until(tmp_path, lambda: server.log.count("name=watch") == 2)
            for certificate in ("good", "bad"):
                with service.smtp(certificate) as session:
                    session.docmd("VRFY a\x1b[2Jb")
                    assert session.one()[0] == 250
            assert first.log == f"connected to unix:{tmp_path}/policy.sock; waiting for events, end it with ^C\n"
            assert second.log == f"connected to {service.url}; waiting for events, end it with ^C\n"
            line = first.until("session.tls ")[0]
            seen = [first.line() for _ in range(3)]
            assert line
            assert not any("\x1b" in each or "message.accepted" in each for each in seen)
            told = json.loads(second.line())
            assert told["method"] == "session.tls"
            assert told["variables"]["tls_client_verified"] == "no"
            assert first.end(signal.SIGINT) == 0
            assert second.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["watch"], 64, "one of the arguments -c --url is required"),
        (["watch", "--url", "unix:/nowhere", "--filter", "x"], 64, "expected KEY=PATTERN"),
        (["report", "--url", "unix:/nowhere"], 69, "No such file"),
        (["report", "--url", "gopher://x"], 69, "expected ws://"),
        (["report", "--url", "unix:/x", "--token-file", "/nowhere"], 64, "the token: cannot read /nowhere: No"),
        (["replay", "/nowhere", "--listen", "./x", "--group", "g"], 64, "cannot read /nowhere: No such file"),
        (["replay", os.devnull, "--listen", "/no/x", "--group", "g"], 64, "--listen /no/x: No such file"),
        (["replay", "/nowhere", "--listen", "127.0.0.1:0", "--group", "g"], 64, "a token is always needed"),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path: Path, words: list[str], status: int, said: str) -> None:
    done = subprocess.run(
        policy(*words), cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_token_is_told(tmp_path: Path) -> None:
    service = Service(tmp_path)
    (tmp_path / "wrong").write_text("not-the-token-at-all")
    with service.serving():
        done = subprocess.run(
            policy("report", "--url", service.url, "--token-file", str(tmp_path / "wrong")),
            env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 69
        assert "401" in done.stderr


def test_shadow_then_report(tmp_path: Path) -> None:
    service = Service(tmp_path, "Policy_Fallback = continue")
    with service.serving() as server:
        report = policy("report", "--url", service.url, "--token-file", str(tmp_path / "token"))
        done = subprocess.run(report, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        assert "No decider has been in shadow" in done.stdout
        with running(deciding(service, tmp_path, refuse="bad", mode="shadow"), tmp_path, "decider") as program:
            program.until("ready")
            with service.smtp() as session:
                assert session.one("good@example.org")[0] == 250
                assert session.one("bad@example.org")[0] == 250
            wait_until(tmp_path, lambda: "policy-shadow" in server.log)
            done = subprocess.run([*report, "--json"], env=ENVIRONMENT, capture_output=True, text=True, check=True)
            (found,) = json.loads(done.stdout)["shadows"]
            assert (found["messages"], found["sessions_differing"]) == (2, 1)
        done = subprocess.run(report, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        assert "messages  1 of 2 would have been treated differently" in done.stdout
        assert "sender=bad@example.org: would reject 550 5.7.1" in done.stdout


def test_messages_are_not_recorded_without_the_right_to_them(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with service.serving():
        for url, token, said in (
            (service.url, "admin", "needs a Unix socket or TLS"),
            (f"unix:{tmp_path}/policy.sock", "token", "needs the token of Admin_Token_File"),
        ):
            command = policy("record", "--bodies", "-o", "x.jsonl", "--url", url, "--token-file", token)
            done = subprocess.run(
                command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60
            )
            assert done.returncode == 69
            assert f"bodies {said}" in done.stderr


HEAD = '{"format":"triosmtp-policy-recording","version":1}\n'
