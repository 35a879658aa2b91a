"""A server started by root: it binds, reads keys, drops the rights of root for good, and logs the consequences."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from life_server import Place, public_place
from serve_process import COMMAND, REPOSITORY, TIMEOUT, LineClient

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")

NOBODY = 65534
LISTEN = 'Listen "127.0.0.1:0" { }'
SECURITY = "Security { User = nobody Group = daemon }"


@pytest.fixture(name="place")
def _place() -> Iterator[Place]:
    with public_place() as place:
        os.chown(place.own, NOBODY, 1)
        yield place


def readable(place: Place) -> None:
    os.chown(place.folder / "server.key", 0, 1)
    (place.folder / "server.key").chmod(0o640)


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


def test_a_file_that_only_root_can_read_is_used_and_causes_a_warning(place: Place) -> None:
    place.write(LISTEN, SECURITY)
    with place.serving() as process:
        with LineClient(process.port()) as client:
            client.read()
            client.ask("HELO client.example")
            assert client.ask("STARTTLS").startswith("220 ")
        done = place.run("reload", "--control", f"{place.own}/control")
        assert done.returncode == 78
        assert f'"{place.folder}/server.key": cannot be read: Permission denied' in done.stderr
        assert process.stop() == 0
    told = [line for line in place.log.splitlines() if "cannot read it again" in line]
    assert len(told) == 1, place.log
    assert f'TLS_Key: "{place.folder}/server.key": user "nobody" cannot read it again' in told[0]
    assert f"no access to {place.folder}/server.key (-rw------- root root)" in told[0]
    assert "its renewal will fail" in told[0]


def test_a_folder_on_the_way_is_named(place: Place) -> None:
    """As certbot has it: `live` is root's alone, and the links in it lead into `archive`."""
    archive, live = place.folder / "archive", place.folder / "live"
    archive.mkdir()
    live.mkdir(mode=0o700)
    readable(place)
    for name in ("server.pem", "server.key"):
        (place.folder / name).rename(archive / name)
        (live / name).symlink_to(f"../archive/{name}")
    conf = place.write(LISTEN, SECURITY)
    conf.write_text(conf.read_text().replace(f"{place.folder}/server", f"{live}/server"))
    with place.serving() as process:
        process.wait_until_ready()
        assert process.stop() == 0
    assert place.log.count(f"no access to folder {live} (drwx------ root root)") == 2
    live.chmod(0o711)
    with place.serving() as process:
        process.wait_until_ready()
        assert process.stop() == 0
    assert "cannot read it again" not in place.log
    assert f'{live}: user "nobody" cannot list it' in place.log


def test_a_configuration_that_cannot_be_reloaded_causes_a_warning(place: Place) -> None:
    readable(place)
    place.write(LISTEN, SECURITY).chmod(0o600)
    with place.serving() as process:
        process.wait_until_ready()
        process.signal(signal.SIGHUP)
        process.stop()
    assert (
        f'a reload will fail: user "nobody": cannot read {place.folder}/triosmtp.conf: Permission denied' in place.log
    )


def test_a_mail_folder_that_cannot_be_written_is_an_error(place: Place) -> None:
    readable(place)
    conf = place.write(LISTEN, SECURITY)
    conf.write_text(conf.read_text().replace(f"maildir:{place.own}", f"maildir:{place.folder}/mail"))
    with place.serving() as process:
        process.wait_until_ready()
        process.stop()
    assert f"{place.folder} cannot be written: mail will be answered 452" in place.log


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


def test_a_listen_bound_as_root_can_be_bound_again_after_a_reload(place: Place) -> None:
    """The kernel asks for one owner of both: the socket was given to the user who serves."""
    readable(place)
    place.write(LISTEN.replace(":0", ":24601"), SECURITY)
    with place.serving() as process:
        process.wait_until_ready()
        place.write('Listen "127.0.0.1:24601" { TCP_Recv_Buffer_Size = 65536 }', SECURITY)
        done = place.run("reload", "--control", f"{place.own}/control")
        assert done.returncode == 0, done
        process.stop()


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


def test_workers_are_that_user_too(place: Place) -> None:
    """They are started by him: with nothing to give up, and with the keys that root has read."""
    place.write(LISTEN, SECURITY + " Workers = 2")
    become = ("setpriv", f"--reuid={NOBODY}", "--regid=1", "--clear-groups")
    can_start = (*become, "sh", "-c", f"exec {shlex.quote(sys.executable)} -c ''")
    if subprocess.run(can_start, check=False, capture_output=True).returncode != 0:
        # The interpreter of these tests is root's alone.
        assert f"no worker can be started: {sys.executable}: Permission denied" in place.refused()
        return
    with place.serving() as process:
        port = process.port()
        tasks = Path(f"/proc/{process.process.pid}/task").iterdir()
        children = [child for task in tasks for child in (task / "children").read_text().split()]
        assert len(children) == 2
        for child in children:
            status = Path(f"/proc/{child}/status").read_text()
            assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}\n" in status
            assert "CapEff:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
        with LineClient(port) as client:
            client.read()
            client.ask("HELO client.example")
            assert client.ask("STARTTLS").startswith("220 ")
        assert process.stop() == 0


def as_nobody(place: Place, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of triosmtp as a user without rights, in an interpreter that root has loaded."""
    program = (
        "import os, sys, triosmtp.cli, triosmtp.commands.check_command\n"
        "import triosmtp.control.console_client, triosmtp.control.control_path\n"
        f"os.setgroups([]); os.setresgid(1, 1, 1); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})\n"
        "sys.exit(triosmtp.cli.main(sys.argv[1:]))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        check=False, capture_output=True, text=True, timeout=TIMEOUT, env=place.environment(environment), cwd="/",
    )  # fmt: skip


@pytest.fixture
def closed(place: Place) -> Path:
    """Return a folder that root alone may enter."""
    folder = place.folder / "closed"
    (folder / "within").mkdir(parents=True)
    folder.chmod(0o700)
    return folder


def test_check_by_a_user_to_whom_the_state_folder_is_closed(place: Place, closed: Path) -> None:
    conf = place.folder / "triosmtp.conf"
    conf.write_text('Relay_Domains = ( "example.com" ) ESMTP_Listener { Listen "127.0.0.1:0" { } }')
    done = as_nobody(place, "check", "-c", str(conf), STATE_DIRECTORY=f"{closed}/within")
    assert (done.returncode, done.stdout) == (0, "Configuration valid\n")
    assert f"{closed} cannot be written: mail will be answered 452" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_by_a_user_to_whom_folders_of_the_configuration_are_closed(place: Place, closed: Path) -> None:
    conf = place.folder / "triosmtp.conf"
    conf.write_text(
        f'Relay_Domains = ( "example.com" )\n'
        f'Spool_Directory = "{closed}/within" Deliver_To = "maildir:{closed}/within"\n'
        f'Log "mainlog" {{ Path = "{closed}/within/mainlog" }}\n'
        f'Control_Listener {{ Listen "{closed}/within/c" {{ }} }}\n'
        'ESMTP_Listener { Listen "127.0.0.1:0" { } }'
    )
    done = as_nobody(place, "check", "-c", str(conf))
    assert (done.returncode, done.stdout) == (0, "Configuration valid\n")
    assert "Traceback" not in done.stderr
    for what in ('Log "mainlog"', "Listen"):
        assert re.search(f"warning: {what}.*within.*: Permission denied; is triosmtp check run by", done.stderr)


def test_an_include_from_a_folder_that_is_closed_is_an_error(place: Place, closed: Path) -> None:
    conf = place.folder / "triosmtp.conf"
    conf.write_text(f'include "{closed}/within"\nESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}')
    done = as_nobody(place, "check", "-c", str(conf))
    assert done.returncode == 78
    assert f"{conf}:1:9: error: cannot include {closed}/within: Permission denied" in done.stderr


def test_the_console_of_a_user_to_whom_the_state_folder_is_closed(place: Place, closed: Path) -> None:
    done = as_nobody(place, "console", "version", RUNTIME_DIRECTORY=f"{closed}/within")
    assert done.returncode == 69
    assert "Traceback" not in done.stderr


def test_it_serves_from_a_package_that_is_closed_to_its_user(place: Place) -> None:
    """Modules that a server imports on first use are loaded before the rights of root are dropped."""
    readable(place)
    closed = place.folder / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(REPOSITORY / "triosmtp", closed / "triosmtp", ignore=shutil.ignore_patterns("__pycache__"))
    place.write(LISTEN, SECURITY + ' Status_Listener { Listen "127.0.0.1:0" { } }')
    with place.serving({"PYTHONPATH": str(closed)}) as process:
        port, *others = (line.rpartition(" ")[2] for line in process.wait_until_ready() if " port " in line)
        with LineClient(int(port)) as client:
            client.read()
            assert client.deliver().startswith("250 ")
        with urllib.request.urlopen(f"http://127.0.0.1:{others[-1]}/readyz", timeout=TIMEOUT) as answer:
            assert answer.status == 200
        assert place.run("reload", "--control", f"{place.own}/control").returncode == 0
    assert "Traceback" not in place.log
