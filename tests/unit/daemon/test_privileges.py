"""The rights of root that a server gives up."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from life_server import Place, public_place
from readable_files import readable
from serve_process import COMMAND, LineClient

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
NOBODY = 65534
LISTEN = 'Listen "127.0.0.1:0" { }'
SECURITY = "Security { User = nobody Group = daemon }"


@pytest.fixture(name="place")
def _place() -> Iterator[Place]:
    with public_place() as place:
        os.chown(place.own, NOBODY, 1)
        yield place


def test_all_rights_are_gone_and_mail_arrives(place: Place) -> None:
    readable(place)
    place.write(LISTEN, SECURITY)
    with place.serving() as process:
        port = process.port()
        status = process.status
        assert status["Uid"].split() == [str(NOBODY)] * 4
        assert status["Gid"].split() == ["1"] * 4
        assert status["Groups"].split() == ["1"]
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"
        for task in Path(f"/proc/{process.process.pid}/task").iterdir():
            assert "CapEff:\t0000000000000000" in (task / "status").read_text()
        with LineClient(port) as client:
            client.read()
            assert client.deliver().startswith("250 ")
        [message] = (place.own / "Maildir/new").iterdir()
        assert (message.stat().st_uid, message.stat().st_gid) == (NOBODY, 1)
        # The control socket is that user's own, and root may use it.
        assert (place.own / "control").stat().st_uid == NOBODY
        done = place.run("reload", "--control", f"{place.own}/control")
        assert done.returncode == 0, done
        assert "takes effect at the next start" not in place.log
        # It cannot become another one again; nor does its log change its form in the middle.
        place.write(LISTEN, 'Security { User = nobody } Log "stderr" { Format = json }')
        done = place.run("reload", "--control", f"{place.own}/control")
        assert done.returncode == 0, done
        assert "Security: a change takes effect at the next start" in place.log
        assert "a change of its form takes effect at the next start" in place.log
        assert process.stop() == 0
    assert "cannot read" not in place.log
    assert not (place.own / "control").exists()


@pytest.mark.parametrize("kept", [False, True])
def test_a_low_port_is_bound_as_root_and_after_a_reload_with_the_capability_alone(place: Place, kept: bool) -> None:
    readable(place)
    security = (
        'Security { User = nobody Group = daemon Capabilities = "cap_net_bind_service+ep" }' if kept else SECURITY
    )
    place.write('Listen "127.0.0.41:25" { }', security)
    with place.serving() as process:
        process.wait_until_ready()
        assert int(process.status["CapPrm"], 16) == int(process.status["CapAmb"], 16) == (1 << 10 if kept else 0)
        place.write('Listen "127.0.0.41:25" { TCP_Recv_Buffer_Size = 65536 }', security)
        same = place.run("reload", "--control", f"{place.own}/control")
        place.write('Listen "127.0.0.41:25" { } Listen "127.0.0.41:587" { }', security)
        another = place.run("reload", "--control", f"{place.own}/control")
        process.stop()
    if kept:
        assert (same.returncode, another.returncode) == (0, 0), another
    else:
        for done, port in ((same, 25), (another, 587)):
            assert done.returncode == 78
            assert (
                f'Listen "127.0.0.41:{port}": Permission denied: port {port} needs root, or cap_net_bind_serv'
                in done.stderr
            )


@pytest.mark.parametrize(
    ("security", "words"),
    [
        ("Security { }", "1:1: error: Security: expected a User: without one the server would run as root"),
        ("Security { User = nobodyatall }", 'error: Security: there is no user "nobodyatall"'),
        ("Security { User = nobody Group = nogroupatall }", 'error: Security: there is no group "nogroupatall"'),
        ("Security { User = root }", "error: Security: User is root: to run as root, leave Security out"),
        ("Security { User = nobody Group = root }", "error: Security: the server must not run with the group root"),
        ("Security { User = 54321 }", "error: Security: expected a Group: user 54321 has no entry"),
        ("Security { User = 4294967296 Group = daemon }", "1:19: error: User: expected a name, or a number from 0"),
        ("Security { User = nobody Group = 4294967295 }", "1:34: error: Group: expected a name, or a number from 0"),
        (
            "Security { User = \u0663 }",
            'error: Security: there is no user "\u0663"',
        ),  # a digit of Unicode, but not of ASCII
    ],
)
def test_an_unusable_user_is_refused(place: Place, security: str, words: str) -> None:
    conf = place.write(LISTEN, security)
    assert words in place.refused()
    checked = place.run("check", "-c", str(conf))
    assert checked.returncode == 78
    assert words in checked.stdout + checked.stderr


def test_it_refuses_to_serve_where_rights_cannot_be_given_up(place: Place) -> None:
    """Without cap_setuid root is root for ever: as in a container that was left too little."""
    place.write(LISTEN, SECURITY)
    done = subprocess.run(
        ["setpriv", "--bounding-set=-setuid", *COMMAND, "serve", "-c", f"{place.folder}/triosmtp.conf"],
        capture_output=True, check=False, text=True, timeout=60, env=place.environment(),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (78, ""), done
    assert done.stderr.startswith("error: Security: ")
    assert "Operation not permitted" in done.stderr


def test_numbers_will_do(place: Place) -> None:
    os.chown(place.own, 54321, 54322)
    (place.folder / "server.key").chmod(0o644)
    place.write(LISTEN, "Security { User = 54321 Group = 54322 }")
    with place.serving() as process:
        process.wait_until_ready()
        assert process.status["Uid"].split() == ["54321"] * 4
        assert process.status["Groups"].split() == ["54322"]
        process.stop()


@pytest.mark.parametrize(("listen", "warned"), [(":0", True), ("127.0.0.1:0", False)])
def test_without_the_scope_root_is_warned_where_strangers_come(place: Place, listen: str, warned: bool) -> None:
    place.write(f'Listen "{listen}" {{ }}')
    with place.serving() as process:
        process.wait_until_ready()
        process.stop()
    assert ("the server runs as root" in place.log) is warned


def test_security_has_no_effect_without_root(place: Place) -> None:
    readable(place)
    place.write(LISTEN, "Security { User = mail }")

    program = (
        "import os, sys, triosmtp.cli, triosmtp.daemon.serve_command\n"  # before: the interpreter may be root's alone
        f"os.setgroups([]); os.setresgid(1, 1, 1); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})\n"
        f"sys.exit(triosmtp.cli.main(['serve', '-c', '{place.folder}/triosmtp.conf']))\n"
    )
    with place.serving(command=(sys.executable, "-c", program)) as process:
        process.wait_until_ready()
        process.stop()
    assert "Security has no effect: this process was started by" in place.log
