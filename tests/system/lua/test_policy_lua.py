"""``triosmtp policy lua`` runs a script against a recording."""

# ruff: noqa: E501 - lines of output

import base64
import json
from pathlib import Path

import pytest
from lua_site import MOMENTUM

from triosmtp.cli import main

BODY = base64.b64encode(b"X-TLS-Facts: forged\r\nSubject: a\r\n\r\nbody\r\n").decode()


def recording(folder: Path, *phases: dict[str, object]) -> Path:
    path = folder / "recording"
    common = {"method": "session.phase", "peer": "192.0.2.1:4000", "listener": ":25", "session": "a-1"}
    lines = [{"format": "triosmtp-policy-recording", "version": 1}, *({**common, **each} for each in phases)]
    path.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    return path


def mail(
    sender: str, decision: str = "accepted", code: int = 0, session: str = "a-1", **variables: str
) -> dict[str, object]:
    domain = sender.rpartition("@")[2]
    return {
        "phase": "mailfrom", "session": session, "variables": variables, "message_variables": {"mailfrom_domain": domain},
        "arguments": {"sender": sender, "parameters": {}}, "outcome": {"decision": decision, "code": code},
    }  # fmt: skip


def test_decisions_are_printed_beside_the_recorded_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recording(
        tmp_path,
        mail("a@bank.example"),
        mail("a@bank.example", "refused", 550, tls="on", tls_client_verified="no", session="a-2"),
        mail("a@bank.example", tls="on", tls_client_verified="yes", session="a-3"),
        mail("a@example.org", session="a-4"),
    )
    assert main(["policy", "lua", str(MOMENTUM / "sender_cert.lua"), str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "a-1 192.0.2.1:4000 mailfrom a@bank.example: refused 530 5.7.0 bank.example is taken over TLS only (was accepted)",
        "a-2 192.0.2.1:4000 mailfrom a@bank.example: refused 550 5.7.1 no verified certificate for bank.example (was refused 550)",
        "a-3 192.0.2.1:4000 mailfrom a@bank.example: continue (was accepted)",
        "a-4 192.0.2.1:4000 mailfrom a@example.org: continue (was accepted)",
        "4 phases asked, 1 decided differently than recorded",
    ]


def test_a_recorded_message_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "one.lua"
    script.write_text("""
        local mod = {}
        function mod:validate_data_spool(msg, ac, vctx)
          print("subject", msg:header("Subject")[1])
          msg:discard()
          return 0
        end
        function mod:validate_data_spool_each_rcpt(msg, ac, vctx) error("for " .. msg:rcptto()) end
        msys.registerModule("one", mod)
    """)
    rcpt = {"recipient": "b@example.net", "parameters": {}}
    path = recording(
        tmp_path,
        mail("a@example.org"),
        {"phase": "rcptto", "arguments": rcpt, "outcome": {"decision": "accepted"}},
        {
            "phase": "data_spool",
            "arguments": {},
            "outcome": {"decision": "accepted"},
            "body": {"parts": [BODY]},
        },
        {"phase": "data_spool_each_rcpt", "arguments": rcpt, "outcome": {"decision": "accepted"}},
    )
    assert main(["policy", "lua", "--json", str(script), str(path)]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["phase"], row["script"].partition(":")[0]) for row in rows[:-1]] == [
        ("data_spool", "discarded"),
        ("data_spool_each_rcpt", "failed"),
    ]
    assert rows[1]["script"].endswith("one.lua:8: for b@example.net")
    assert rows[-1] == {"summary": {"asked": 2, "differ": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = = 1", "one.lua:1: unexpected symbol near '='"), ("local mod = {} function mod:init() end msys.registerModule('one', mod)", "init of one must return true")],
)  # fmt: skip
def test_a_script_that_cannot_be_loaded_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    script = tmp_path / "one.lua"
    script.write_text(text)
    assert main(["policy", "lua", str(script), str(recording(tmp_path))]) == 64
    assert message in capsys.readouterr().err


def test_a_damaged_recording_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recording").write_text("x\n")
    assert main(["policy", "lua", str(MOMENTUM / "sender_cert.lua"), str(tmp_path / "recording")]) == 64
    assert "recording:1: " in capsys.readouterr().err
    assert main(["policy", "lua", str(MOMENTUM / "sender_cert.lua"), str(tmp_path / "none")]) == 64
