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
from readable_files import readable
from serve_process import REPOSITORY, TIMEOUT, LineClient

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")

NOBODY = 65534
LISTEN = 'Listen "127.0.0.1:0" { }'
SECURITY = "Security { User = nobody Group = daemon }"


@pytest.fixture(name="place")
def _place() -> Iterator[Place]:
    with public_place() as place:
        os.chown(place.own, NOBODY, 1)
        yield place


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
        "import importlib.util, os, sys, triosmtp.cli, triosmtp.commands.check_command\n"
        "import triosmtp.control.console_client, triosmtp.control.control_path, triosmtp.tls.cipher\n"
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
