"""`triosmtp serve`: its errors, its output and its end."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_process import COMMAND, REPOSITORY, TIMEOUT, LineClient, ServeProcess, run_server

from triosmtp.x509.authority import Authority

CONFIGURATION = """\
Relay_Domains = ( "example.com" )
Deliver_To = "maildir:Maildir"
Spool_Directory = "spool"
ESMTP_Listener {
  TLS_Certificate = "server.pem"
  TLS_Key = "server.key"
  SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  Listen "127.0.0.1:0" { }
}
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """Write a configuration that can be served, with all files that it names."""
    Authority.create().issue("localhost", dns=["localhost"]).write(tmp_path, "server")
    path = tmp_path / "triosmtp.conf"
    path.write_text(CONFIGURATION)
    return path


@pytest.fixture
def daemon(conf: Path) -> Iterator[ServeProcess]:
    with run_server("-c", str(conf), log=conf.with_name("log")) as daemon:
        yield daemon


def delivered(conf: Path) -> int:
    return len(list((conf.parent / "Maildir" / "new").glob("*")))


# It cannot be served


def assert_one_clear_error(done: subprocess.CompletedProcess[str], place: str, words: str, status: int = 78) -> None:
    """Check that there is one error, in that place, in those words; nothing was served, and no traceback is shown."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    errors = [number for number, line in enumerate(lines) if "error: " in line]
    assert len(errors) == 1, done.stderr
    assert re.match(re.escape(place) + r"(:\d+)?: error: ", lines[errors[0]]), lines
    assert words in lines[errors[0]]
    assert "Traceback" not in done.stderr


def refused(conf: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(command or COMMAND), "serve", "-c", str(conf)],
        check=False, capture_output=True, text=True, timeout=TIMEOUT,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"server.pem"', '"nothing.pem"', 'nothing.pem": does not exist'),
        ('"server.key"', '"nothing.key"', 'nothing.key": does not exist'),
        ('TLS_Key = "server.key"', 'TLS_Key = "server.pem"', 'server.pem": holds no private key'),
        ('TLS_Key = "server.key"', 'TLS_Kee = "server.key"', "TLS_Key"),
        ('TLS_Key = "server.key"', 'TLS_Key = "server.key', "string"),
        ('"maildir:Maildir"', '"mailbox:Maildir"', "mailbox:Maildir"),
        ('"spool"', '"spool"\nPolicy = ( "python:nothing_of_that_name:Policy" )', "nothing_of_that_name"),
        ('"127.0.0.1:0"', '"192.0.2.1:0"', 'Listen "192.0.2.1:0": Cannot assign requested address'),
    ],
)  # fmt: skip
def test_an_error_is_one_line_that_names_its_place(conf: Path, old: str, new: str, words: str) -> None:
    text = CONFIGURATION.replace(old, new)
    conf.write_text(text)
    line = next(n for n, line in enumerate(text.splitlines(), 1) if new.splitlines()[-1] in line)
    done = refused(conf)
    assert_one_clear_error(done, f"{conf}:{line}", words, 75 if "assign" in words else 78)
    error, source, caret = done.stderr.splitlines()[-3:]
    assert ": error: " in error
    assert source.strip() == text.splitlines()[line - 1].strip()
    assert caret.strip() == "^"


def test_a_busy_port(conf: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        conf.write_text(CONFIGURATION.replace(":0", f":{port}"))
        done = refused(conf)
        assert_one_clear_error(done, f"{conf}:8", f'Listen "127.0.0.1:{port}": Address already in use', 75)
        # If only an edit can repair the configuration, the status says so, also if a socket is in use.
        conf.write_text(
            CONFIGURATION.replace(":0", f":{port}").replace(
                "ESMTP_Listener {", 'ESMTP_Listener { Listen "./no/such/socket" { }'
            )
        )
        assert refused(conf).returncode == 78


def test_no_connection_is_accepted_where_another_listen_fails(conf: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as free:
        busy, good = other.getsockname()[1], free.getsockname()[1]
        free.close()
        listens = f'Listen "127.0.0.1:{good}" {{ }} Listen "127.0.0.1:{busy}" {{ }}'
        conf.write_text(CONFIGURATION.replace('Listen "127.0.0.1:0" { }', listens))
        done = refused(conf)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", good), TIMEOUT)
    assert_one_clear_error(done, f"{conf}:8", f'Listen "127.0.0.1:{busy}": Address already in use', 75)


def test_a_worker_that_is_killed_as_it_starts(conf: Path) -> None:
    policy = "import os, sys\nif 'triosmtp.workers.worker' in ' '.join(sys.orig_argv): os.kill(os.getpid(), 9)\n"
    conf.with_name("fatal.py").write_text(f"{policy}from triosmtp import Policy\nclass Fatal(Policy):\n    pass\n")
    conf.write_text(f'Workers = 2 Policy = ( "python:fatal:Fatal" )\n{CONFIGURATION}')
    done = refused(conf)
    assert (done.returncode, done.stdout) == (75, "")
    assert re.search(r"^error: worker \d \(process \d+\) ended before it was ready$", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


def test_a_worker_for_which_no_descriptors_are_left(conf: Path) -> None:
    conf.write_text(f"Workers = 2\n{CONFIGURATION}")
    done = refused(conf, "sh", "-c", 'ulimit -n 14; exec "$@"', "sh", *COMMAND)
    assert (done.returncode, done.stdout) == (75, "")
    assert f"error: no worker can be started: {sys.executable}: Too many open files" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_before_it_serves(conf: Path, number: int) -> None:
    """SIGHUP is handled as soon as possible; the others end a start, also one that hangs."""
    conf.with_name("early.py").write_text(
        "import os, threading\nfrom pathlib import Path\nfrom triosmtp import Policy\n"
        f"marker = Path({str(conf.with_name('marker'))!r})\n"
        f"if not marker.exists():\n    marker.touch()\n    os.kill(os.getpid(), {int(number)})\n"
        f"    {number} == {int(signal.SIGHUP)} or threading.Event().wait()\n"
        "class Early(Policy):\n    pass\n"
    )
    conf.write_text(f'Policy = ( "python:early:Early" )\n{CONFIGURATION}')
    with run_server("-c", str(conf), log=conf.with_name("log")) as daemon:
        if number == signal.SIGHUP:
            daemon.port()
            daemon.wait_for_log("SIGHUP")  # the report of the reload
            daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert "Traceback" not in daemon.log


@pytest.mark.parametrize("workers", [1, 2])
def test_it_serves_what_a_program_that_embeds_the_server_does_not(conf: Path, workers: int) -> None:
    control, mainlog = conf.with_name("control"), conf.with_name("mainlog")
    more = f'''
        Workers = {workers}
        Log "mainlog" {{ Path = "{mainlog}" }}
        Status_Listener {{ Listen "127.0.0.1:0" {{ }} }}
        Control_Listener {{ Listen "{control}" {{ }} }}
    '''
    conf.write_text(more + CONFIGURATION)
    with run_server("-c", str(conf), log=conf.with_name("log")) as daemon:
        daemon.port()
        assert control.exists()
        assert mainlog.exists()
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_log("SIGHUP")  # the report of the reload
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert not re.findall(".*warning.*", daemon.log, re.IGNORECASE)


def test_without_a_stderr_it_serves(conf: Path) -> None:
    """What was closed at the start leads nowhere, in the workers, too: no connection may be taken for it."""
    conf.write_text(f"Workers = 2\n{CONFIGURATION}")
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *COMMAND, "serve", "-c", str(conf)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(" ")[2])
            with LineClient(port) as client:
                assert client.read().startswith("220 ")
            tasks = Path(f"/proc/{process.pid}/task").iterdir()
            workers = [pid for task in tasks for pid in (task / "children").read_text().split()]
            assert len(workers) == 2
            for pid in (process.pid, *workers):
                assert os.readlink(f"/proc/{pid}/fd/2") == "/dev/null"  # noqa: PTH115
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT) == 0
        finally:
            process.kill()


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    done = refused(tmp_path / "nothing.conf")
    assert done.returncode == 78
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert "error: " in line
    assert str(tmp_path / "nothing.conf") in line
    assert "No such file or directory" in line


_AS_NOBODY = """\
import os, sys
import triosmtp.cli, triosmtp.daemon.serve_command
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(triosmtp.cli.main(sys.argv[1:]))
"""


def test_a_key_that_cannot_be_read(conf: Path) -> None:
    if os.geteuid() != 0:
        conf.with_name("server.key").chmod(0)
        done = refused(conf)
        assert_one_clear_error(done, f"{conf}:6", 'server.key": cannot be read: Permission denied')
        return
    # Modes are nothing to root: another user, and so a folder that it can enter, and no coverage file to write.
    with tempfile.TemporaryDirectory(prefix="triosmtp-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for file in ("triosmtp.conf", "server.pem", "server.key"):
            shutil.copy(conf.with_name(file), folder)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, "serve", "-c", str(folder / "triosmtp.conf")],
            check=False, capture_output=True, text=True, timeout=TIMEOUT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "HOME": name},
        )  # fmt: skip
    assert_one_clear_error(done, f"{folder / 'triosmtp.conf'}:6", 'server.key": cannot be read: Permission denied')


def test_a_policy_module_that_wants_to_exit(conf: Path) -> None:
    conf.with_name("leaving.py").write_text("raise SystemExit(0)\n")
    conf.write_text(CONFIGURATION + 'Policy = ( "python:leaving:Policy" )\n')
    assert_one_clear_error(refused(conf), f"{conf}:10", "SystemExit")


# It serves, and says what should not be so


def test_a_key_that_everybody_can_read_is_told_at_the_start(conf: Path) -> None:
    conf.with_name("server.key").chmod(0o644)
    with run_server("-c", str(conf), log=conf.with_name("log")) as daemon:
        daemon.port()
        [line] = [line for line in daemon.log.splitlines() if "TLS_Key" in line]
    assert f" WARNING {conf}:6:13: TLS_Key: " in line
    assert line.endswith("holds a private key and can be read by every user")


# It serves, and a signal stops it

SIGNALS = [pytest.param(number, id=number.name) for number in (signal.SIGTERM, signal.SIGINT)]


def begin_message(client: LineClient) -> None:
    assert client.read().startswith("220 ")
    assert client.ask("HELO client.example").startswith("250 ")
    assert client.ask("MAIL FROM:<me@example.org>").startswith("250 ")
    assert client.ask("RCPT TO:<you@example.com>").startswith("250 ")
    assert client.ask("DATA").startswith("354 ")
    client.say("Subject: under way", "", "first half")


@pytest.mark.parametrize("number", SIGNALS)
def test_it_ends_at_once_where_nothing_is_under_way(daemon: ServeProcess, number: int) -> None:
    port = daemon.port()
    daemon.signal(number)  # the moment it says that it serves
    assert daemon.wait() == 0
    assert "Traceback" not in daemon.log
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), TIMEOUT)


@pytest.mark.parametrize("number", SIGNALS)
def test_it_drains(conf: Path, daemon: ServeProcess, number: int) -> None:
    port = daemon.port()
    with LineClient(port) as idle, LineClient(port) as busy:
        assert idle.read().startswith("220 ")
        begin_message(busy)
        daemon.signal(number)
        assert idle.read() == "421 4.3.2 Service shutting down"
        assert idle.read() == ""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), TIMEOUT)
        assert busy.ask("second half\r\n.").startswith("250 2.0.0 ")
        assert busy.read() == "421 4.3.2 Service shutting down"
        assert busy.read() == ""
    assert daemon.wait() == 0
    assert delivered(conf) == 1
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_stops_it_at_once(conf: Path, daemon: ServeProcess, number: int) -> None:
    port = daemon.port()
    with LineClient(port) as idle, LineClient(port) as busy:
        assert idle.read().startswith("220 ")
        begin_message(busy)
        daemon.signal(number)
        assert idle.read() == "421 4.3.2 Service shutting down"
        daemon.signal(number)
        assert busy.read() == "421 4.3.2 Service shutting down"  # not the 250 of a message
        assert busy.read() == ""
    assert daemon.wait() == 0
    assert delivered(conf) == 0
    assert "Traceback" not in daemon.log


def test_it_serves_where_nobody_reads_what_it_says(conf: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    conf.write_text(CONFIGURATION.replace(":0", f":{port}"))
    with (
        Path("/dev/full").open("w") as stdout,
        subprocess.Popen(
            [*COMMAND, "serve", "-c", str(conf)], stdout=stdout, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        ) as process,
    ):  # fmt: skip
        assert process.stderr is not None
        assert any("stdout: No space left on device" in line for line in process.stderr)
        with LineClient(port) as client:
            assert client.read().startswith("220 ")
            assert client.ask("QUIT").startswith("221 ")
        process.terminate()
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 0


_COUNT_FROZEN = """\
import gc
from triosmtp import Policy, Reject

class Count(Policy):
    async def validate_ehlo(self, session, name):
        raise Reject(550, "5.7.0", str(gc.get_freeze_count()))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_the_garbage_collector_does_not_look_at_modules(conf: Path, workers: int) -> None:
    conf.with_name("count_frozen.py").write_text(_COUNT_FROZEN)
    conf.write_text(f'Workers = {workers} Policy = ( "python:count_frozen:Count" ) {CONFIGURATION}')
    with run_server("-c", str(conf), log=conf.with_name("log")) as daemon, LineClient(daemon.port()) as client:
        client.read()
        reply = client.ask("EHLO client.example")
    assert int(reply.split()[-1]) > 10_000, reply
