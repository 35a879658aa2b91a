"""The commands that ask a configuration, as an operator types them."""

# ruff: noqa: E501 - lines of output are not broken

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import TEXT, enter_with_configuration, run

from triosmtp.config import OPTIONS


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return enter_with_configuration(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Idle_Time", "Idle_Time = 100  # e.conf:1"),
        ("idle_time", "Idle_Time = 100  # e.conf:1"),
        ("ESMTP_Listener Idle_Time", "Idle_Time = 100  # e.conf:1"),
        ("ESMTP_Listener Listen :25 Idle_Time", "Idle_Time = 60  # e.conf:8"),
        ("esmtp_listener listen *:25 Idle_Time", "Idle_Time = 60  # e.conf:8"),
        ("ESMTP_Listener Listen :25 Peer 10.0.0.1 Idle_Time", "Idle_Time = 30  # e.conf:9"),
        ("ESMTP_Listener Listen :25 Peer 10.0.0.1 Max_Command_Errors", "Max_Command_Errors = 5  # e.conf:10"),
        ("ESMTP_Listener Listen :25 Peer 10.0.0.0/8 Max_Command_Errors", "Max_Command_Errors = 20  # default"),
        ("ESMTP_Listener Listen :25 Peer 192.0.2.1 Max_Recipients_Per_Message", "= 7  # e.conf:13"),
        ("ESMTP_Listener Peer 192.0.2.1 Max_Recipients_Per_Message", "= 7  # e.conf:13"),
        ("ESMTP_Listener Peer ::ffff:192.0.2.1 Max_Recipients_Per_Message", "= 7  # e.conf:13"),
        ("ESMTP_Listener Listen :25 Peer 2001:db8::1 Idle_Time", "Idle_Time = 60  # e.conf:8"),
        ("ESMTP_Listener Pathway", 'Pathway = "in"  # e.conf:6'),
        ("ESMTP_Listener Listen :25 Require_EHLO", "Require_EHLO = true  # e.conf:4"),
        ("ESMTP_Listener Listen :25 Max_Message_Size", "Max_Message_Size = 9  # e.conf:4"),
        ("Pathway_Group g Pathway in Max_Message_Size", "Max_Message_Size = 9  # e.conf:4"),
        ("Pathway_Group g Require_EHLO", "Require_EHLO = false  # default"),
        ("ESMTP_Listener Listen /run/s Enable", "Enable = false  # e.conf:12"),
        ("TLS_Certificate", "TLS_Certificate = none  # default"),
        ("SMTP_Extensions", 'SMTP_Extensions = ( "ENHANCEDSTATUSCODES" )  # default'),
        ("--local :25 Idle_Time", "Idle_Time = 60  # e.conf:8"),
        ("--local 127.0.0.1:25 --peer 10.9.9.9 Idle_Time", "Idle_Time = 30  # e.conf:9"),
        ("--local [::1]:25 --peer [::1] Idle_Time", "Idle_Time = 60  # e.conf:8"),
        ("--peer 10.9.9.9 Idle_Time", "Idle_Time = 30  # e.conf:9"),
    ],
)
def test_eval(capsys: pytest.CaptureFixture[str], conf: str, question: str, answer: str) -> None:
    told = run(capsys, "config", "eval", "-c", conf, *question.split())
    assert (told.code, told.err) == (0, "")
    assert told.out.endswith(answer + "\n")
    assert told.out.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "scope"),
    [
        ("", "global"),
        ("ESMTP_Listener", "ESMTP_Listener"),
        ("ESMTP_Listener Listen :25", "Listen"),
        ("ESMTP_Listener Listen :25 Peer 10.0.0.0/8", "Peer"),
        ("Pathway_Group g", "Pathway_Group"),
        ("Control_Listener Listen /c", "Listen of a Control_Listener"),
        ("Log mainlog", "Log"),
        ("Security", "Security"),
    ],
)
def test_eval_without_an_option_tells_what_can_stand_there(
    capsys: pytest.CaptureFixture[str], conf: str, words: str, scope: str
) -> None:
    more = 'Control_Listener { Listen "/c" { } } Log mainlog { Path = "/m" } Security { User = "nobody" }'
    Path(conf).write_text(TEXT + more)
    told = run(capsys, "config", "eval", "-c", conf, *words.split())
    names = [line.partition(" = ")[0] for line in told.out.splitlines()]
    assert names == [option.name for option in OPTIONS.values() if scope in option.scopes]


def test_eval_of_a_console_falls_back_to_nothing(capsys: pytest.CaptureFixture[str], conf: str) -> None:
    Path(conf).write_text(f"{TEXT}\nControl_Listener {{ }}\n")
    told = run(capsys, "config", "eval", "-c", conf, "Control_Listener", "Idle_Time")
    assert told.code == 64
    assert "Idle_Time is not valid in a Control_Listener; it is in: global, " in told.err


def test_eval_for_a_connection_tells_what_holds_for_one(capsys: pytest.CaptureFixture[str], conf: str) -> None:
    told = run(capsys, "config", "eval", "-c", conf, "--local", ":25", "--peer", "192.0.2.1")
    names = {line.partition(" = ")[0] for line in told.out.splitlines()}
    assert {"Idle_Time", "TLS_Watch", "Use_SSL", "Policy"} <= names
    assert names.isdisjoint({"Path", "Format", "User", "Token_File", "Host_Names", "Capabilities"})
    assert "Idle_Time = 60  # e.conf:8\n" in told.out


def test_get_asks_that_scope_alone(capsys: pytest.CaptureFixture[str], conf: str) -> None:
    words = ("config", "get", "-c", conf, "ESMTP_Listener", "Listen", ":25")
    assert run(capsys, *words, "Idle_Time").out == "Idle_Time = 60  # e.conf:8\n"
    told = run(capsys, *words, "Max_Command_Errors")
    assert (told.code, told.out) == (1, "")
    assert told.err == "triosmtp: Max_Command_Errors is not set in that scope\n"
    assert run(capsys, *words, "Peer", "10.0.0.0/8", "Idle_Time").out == "Idle_Time = 30  # e.conf:9\n"


def test_show(capsys: pytest.CaptureFixture[str], conf: str) -> None:
    told = run(capsys, "config", "show", "-c", conf)
    assert told.out == (
        "Idle_Time = 100  # e.conf:1\n"
        'Relay_Domains = ( "example.org" )  # e.conf:2\n'
        'Deliver_To = "discard:"  # e.conf:3\n'
    )
    assert run(capsys, "config", "show", "-c", conf, "Pathway_Group", "g").out == "Max_Message_Size = 9  # e.conf:4\n"
    assert run(capsys, "config", "show", "-c", conf, "Idle_Time").out == "Idle_Time = 100  # e.conf:1\n"


def test_showrecurse(capsys: pytest.CaptureFixture[str], conf: str) -> None:
    told = run(capsys, "config", "showrecurse", "-c", conf, "ESMTP_Listener", "Listen", ":25")
    assert told.out == (
        "Idle_Time = 60  # e.conf:8\n"
        'Peer "10.0.0.0/8" {\n'
        "  Idle_Time = 30  # e.conf:9\n"
        "}\n"
        'Peer "10.0.0.1" {\n'
        "  Max_Command_Errors = 5  # e.conf:10\n"
        "}\n"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("eval -c e.conf Idle_Tme", "unknown scope or option Idle_Tme; did you mean Idle_Time?"),
        ("eval -c e.conf ESMTP_Listner Idle_Time", "unknown scope or option ESMTP_Listner; did you mean ESMTP_Listener?"),
        ("eval -c e.conf ESMTP_Listener Listn :25", 'there is no ESMTP_Listener "Listn"; did you mean Listen?'),
        ("eval -c e.conf ESMTP_Listener Listen :26 Idle_Time", 'there is no Listen ":26" in ESMTP_Listener; there is: ":25"'),
        ("eval -c e.conf ESMTP_Listener Listen", 'expected an instance: Listen ":25"'),
        ("eval -c e.conf Listen :25 Idle_Time", "Listen does not stand in global"),
        ("eval -c e.conf ESMTP_Listener Peer x Idle_Time", "expected an address or a CIDR block"),
        ("eval -c e.conf User", "User is not valid in the global scope; it is in: Security"),
        ("eval -c e.conf Use_SSL", "Use_SSL is not valid in the global scope; it is in: Pathway_Group, Pathway, ESMTP_Li"),
        ("eval -c e.conf ESMTP_Listener Listen :25 Peer 10.0.0.1 User", "User is not valid in a Peer; it is in: Security"),
        ("eval -c e.conf --local :25 User", "User is no option of connections; its scopes: Security"),
        ("eval -c e.conf Idle_Time Max_Message_Size", "Idle_Time is an option: it stands last"),
        ("eval -c e.conf Pathway_Group x Idle_Time", 'there is no Pathway_Group "x"; there is: "g"'),
        ("eval -c e.conf --local :99 Idle_Time", "no Listen accepts :99; Listens: :25"),
        ("eval -c e.conf --peer x Idle_Time", "--peer: expected an address, found 'x'"),
        ("eval -c e.conf --local :25 ESMTP_Listener Idle_Time", "name an option without scopes"),
        ("get -c e.conf ESMTP_Listener", "get needs the name of an option as its last word"),
        ("get -c e.conf ESMTP_Listener Peer 10.0.0.2 Idle_Time", 'there is no Peer "10.0.0.2/32" in ESMTP_Listener'),
        ("showrecurse -c e.conf Idle_Time", "showrecurse takes only scopes"),
        ("eval Idle_Time", "the following arguments are required: -c"),
        ("evil -c e.conf", "invalid choice: 'evil'"),
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense(capsys: pytest.CaptureFixture[str], conf: str, words: str, told: str) -> None:
    found = run(capsys, "config", *words.split())
    assert (found.code, found.out) == (64, "")
    assert told in found.err


def test_options(capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "config", "options")
    assert "TLS_Verify_Mode = unset  (none | optional | require)\n" in told.out
    rows = json.loads(run(capsys, "config", "options", "--json").out)
    assert [row["name"] for row in rows] == [option.name for option in OPTIONS.values()]
    assert rows[0] == {
        "name": "Enable",
        "type": "boolean",
        "default": "true",
        "scopes": [
            *("ESMTP_Listener", "Listen", "Control_Listener", "Listen of a Control_Listener"),
            *("Policy_Listener", "Listen of a Policy_Listener"),
            *("Status_Listener", "Listen of a Status_Listener"),
        ],
        "reloadable": True,
        "doc": OPTIONS["enable"].doc,
    }


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str], conf: str) -> None:
    told = run(capsys, "check", "-c", "nope.conf")
    assert (told.code, told.err) == (78, "error: cannot read nope.conf: No such file or directory\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "--version")
    assert told.code == 0
    assert re.fullmatch(r"triosmtp \S.*\nPython 3\.\S+\ntrio \d\S+\nOpenSSL \d.*\n", told.out)


@pytest.mark.parametrize("words", [(), ("checks",), ("check",), ("config",), ("check", "--x")])
def test_a_command_that_makes_no_sense(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    told = run(capsys, *words)
    assert (told.code, told.out) == (64, "")
    assert "usage: triosmtp" in told.err


def test_a_closed_pipe_is_quiet() -> None:
    words = [sys.executable, "-m", "triosmtp", "config", "options"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_an_interrupt_is_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, conf: str) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("triosmtp.config.load_config", interrupted)
    told = run(capsys, "config", "show", "-c", conf)
    assert (told.code, told.out, told.err) == (130, "", "")
