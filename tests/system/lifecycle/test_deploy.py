"""What lies in examples/deploy: checked by systemd's own tools, by shellcheck, and by running it."""

import base64
import json
import os
import re
import shlex
import shutil
import signal
import smtplib
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from life_server import Place, public_place
from serve_process import COMMAND, REPOSITORY, TIMEOUT, LineClient, free_port, wait_for_log

from triosmtp import parse_config
from triosmtp.cli import command_parser
from triosmtp.config import load_config
from triosmtp.testing import Authority

DEPLOY = REPOSITORY / "examples/deploy"
PROGRAM = "/opt/triosmtp/bin/triosmtp"
EXPOSURE = 1.6
"""What `systemd-analyze security` says of the unit: 0 is none, 10 all of it."""


def program(name: str) -> str:
    """Return the path of a program; without it the test is skipped, except in CI."""
    path = shutil.which(name)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return path


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, check=False, text=True, timeout=TIMEOUT, env={**os.environ, **environment}
    )


@pytest.fixture(name="place")
def _place() -> Iterator[Place]:
    with public_place() as place:
        yield place


# systemd


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Return the units with the path of the program replaced, which is not installed here."""
    for name in ("triosmtp.service", "triosmtp.socket"):
        text = (DEPLOY / name).read_text()
        assert text.count(PROGRAM) == (name == "triosmtp.service")
        (tmp_path / name).write_text(text.replace(PROGRAM, "/bin/true"))
    return tmp_path


def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    done = run(program("systemd-analyze"), "verify", f"{units}/triosmtp.service", f"{units}/triosmtp.socket")
    assert (done.returncode, done.stderr) == (0, ""), done


def test_the_service_is_as_closed_as_is_said(units: Path) -> None:
    analyze = program("systemd-analyze")
    arguments = ("security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE * 10:g}")
    done = run(analyze, *arguments, f"{units}/triosmtp.service")
    assert done.returncode == 0, done.stdout
    assert f"{EXPOSURE}" in (REPOSITORY / "docs/deploying.md").read_text()


def test_the_drop_in_is_for_a_newer_systemd(units: Path) -> None:
    analyze = program("systemd-analyze")
    shutil.copytree(DEPLOY / "triosmtp.service.d", units / "triosmtp.service.d")
    match = re.match(r"systemd (\d+)", run(analyze, "--version").stdout)
    assert match
    done = run(analyze, "verify", f"{units}/triosmtp.service")
    if int(match[1]) >= 253:
        assert (done.returncode, done.stderr) == (0, ""), done
    else:
        lines = done.stderr.splitlines()
        assert lines
        assert all("notify-reload" in line or "No such file" in line for line in lines[:1]), done


# Other programs that read what triosmtp writes


def test_fail2ban_bans_the_address_that_failed_and_no_other(place: Place) -> None:
    """Lines of a real server, among them one whose user name tries to look like a failure of another address."""
    (place.folder / "users").write_text("me:secret\n")
    place.write(
        f"""AuthPlainParameters = [ uri = "file://{place.folder}/users" ]
        Allow_Plaintext_Auth = true
        Listen "127.0.0.1:0" {{ SMTP_Extensions = ( "AUTH PLAIN" ) }}"""
    )
    forged = '","peer":"192.0.2.1:25","mechanism":"PLAIN","user":"x","result":"fail'
    with (
        place.serving({"TRIOSMTP_LOG_FORMAT": "json"}) as process,
        smtplib.SMTP("127.0.0.1", process.port(), timeout=TIMEOUT) as client,
    ):
        client.ehlo()
        for user, password, code in ((forged, "no", 535), ("me", "secret", 235)):
            response = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
            assert client.docmd("AUTH", f"PLAIN {response}")[0] == code
    log = place.folder / "log.json"
    log.write_text("".join(f"{line}\n" for line in place.log.splitlines() if line.startswith("{")))
    done = run(program("fail2ban-regex"), "-o", "ip", str(log), str(DEPLOY / "fail2ban/filter.d/triosmtp.conf"))
    assert done.stdout.split() == ["127.0.0.1"]


def test_logrotate_reads_its_file(tmp_path: Path) -> None:
    text = (DEPLOY / "triosmtp.logrotate").read_text()
    file = tmp_path / "logrotate"
    file.write_text(text.replace("su triosmtp triosmtp", "su root root").replace("/var/log/triosmtp", str(tmp_path)))
    (tmp_path / "mainlog").write_text("a line\n")
    done = run(program("logrotate"), "-d", "-f", "-s", str(tmp_path / "state"), str(file))
    assert done.returncode == 0
    assert "error" not in done.stderr
    assert f"rotating pattern: {tmp_path}/mainlog" in done.stderr
    assert "--signal=HUP triosmtp.service" in done.stderr


def test_no_system_call_is_made_that_the_service_may_not_make(place: Place) -> None:
    """The filter of the unit against what a start, a message over TLS, a reload and a drain really call."""
    allowed = allowed_calls(program("systemd-analyze"))
    trace = place.folder / "trace"
    conf = place.write('Listen "127.0.0.1:0" { }')
    strace = (program("strace"), "-f", "-qq", "-o", str(trace), "-e", "signal=none")
    with place.serving(command=(*strace, *COMMAND, "serve", "-c", str(conf))) as process:
        with LineClient(process.port()) as client:
            client.read()
            client.ask("HELO client.example")
            assert client.ask("STARTTLS").startswith("220 ")
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(client.socket) as encrypted, encrypted.makefile("rwb") as file:
                file.write(b"HELO c.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
                file.flush()
                while not file.readline().startswith(b"354 "):
                    pass
                file.write(b"x\r\n.\r\nQUIT\r\n")
                file.flush()
                assert file.read().endswith(b" Bye\r\n")
        assert place.run("reload", "--control", f"{place.own}/control").returncode == 0
        [child] = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        assert process.process.wait(TIMEOUT) == 0
    assert list((place.own / "Maildir/new").iterdir())
    # systemd does the steps before the program of the service runs.
    called = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
    assert {"accept4", "epoll_wait", "fsync"} <= called
    assert called - allowed == set()


def test_a_wrong_option_causes_no_other_errors(place: Place) -> None:
    """The filter of the unit permits no fchown(): then each Listen seemed to be wrong, too."""
    (place.folder / "short").touch(mode=0o600)
    conf = place.write('Listen "127.0.0.1:0" { }')
    conf.write_text(f'{conf.read_text()}\nMock_Credentials_File = "{place.folder}/short"\n')
    inject = (program("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "inject=fchown:error=EPERM")
    done = run(*inject, *COMMAND, "serve", "-c", str(conf))
    assert done.returncode == 78, done
    assert [line for line in done.stderr.splitlines() if ": error: " in line] == [
        line for line in done.stderr.splitlines() if "not 32 octets" in line
    ]
    assert "not 32 octets" in done.stderr


def allowed_calls(analyze: str) -> set[str]:
    text = run(analyze, "syscall-filter", "--no-pager").stdout
    groups: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("@"):
            members = groups[line.strip()] = []
        elif line.strip() and not line.strip().startswith("#"):
            members.append(line.strip())

    def of(group: str) -> set[str]:
        return {call for each in groups[group] for call in (of(each) if each.startswith("@") else {each})}

    allowed: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", (DEPLOY / "triosmtp.service").read_text(), re.MULTILINE):
        named = {call for group in line.lstrip("~").split() for call in of(group)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def test_a_socket_of_systemds_is_served(place: Place) -> None:
    """`systemd-socket-activate` does what a .socket unit does: it binds, waits, and hands the socket over."""
    port = free_port()
    place.write(f'Listen ":{port}" {{ }}')
    listen = re.search(r"^ListenStream=(.*):25$", (DEPLOY / "triosmtp.socket").read_text(), re.MULTILINE)
    assert listen
    activate = (program("systemd-socket-activate"), f"--listen={listen[1]}:{port}", "--fdname=smtp")
    environment = [f"--setenv={name}" for name in ("PYTHONPATH", "HOME", "TRIOSMTP_LOG_FORMAT")]
    with place.serving(
        command=(*activate, *environment, *COMMAND, "serve", "-c", f"{place.folder}/triosmtp.conf")
    ) as process:
        wait_for_log(place.folder / "log", "Listening on")
        with LineClient(port) as client:  # which is what starts it
            assert client.read().startswith("220 ")
            assert f'Listen ":{port}": :: port {port}' in process.wait_until_ready()
        assert process.stop() == 0


# Deploy hooks


def served_serial(port: int) -> int:
    with LineClient(port) as client:
        client.read()
        client.ask("HELO client.example")
        client.ask("STARTTLS")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(client.socket) as encrypted:
            der = encrypted.getpeercert(binary_form=True)
            assert der is not None
            return x509.load_der_x509_certificate(der).serial_number


@pytest.mark.parametrize("hook", ["certbot", "acme.sh"])
def test_the_renewal_hook_installs_certificates_in_a_running_server(place: Place, hook: str) -> None:
    tls, lineage = place.folder / "tls", place.folder / "live" / "mx.example.org"
    lineage.mkdir(parents=True)
    tls.mkdir()
    authority = Authority.create()
    launcher = place.folder / "triosmtp"
    launcher.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {shlex.join(COMMAND)} "$@"\n')
    launcher.chmod(0o755)
    environment = {
        "RENEWED_LINEAGE": str(lineage), "RENEWED_DOMAINS": "mx.example.org", "TRIOSMTP_GROUP": str(os.getgid()),
        "TRIOSMTP_TLS_DIRECTORY": str(tls), "TRIOSMTP": str(launcher), "TRIOSMTP_CONTROL": f"{place.own}/control",
    }  # fmt: skip

    def renew() -> int:
        credential = authority.issue("mx.example.org", dns=["mx.example.org"])
        credential.write(place.folder, "new")
        shutil.copy(place.folder / "new.pem", lineage / "fullchain.pem")
        shutil.copy(place.folder / "new.key", lineage / "privkey.pem")
        return x509.load_pem_x509_certificate((place.folder / "new.pem").read_bytes()).serial_number

    def deploy() -> subprocess.CompletedProcess[str]:
        if hook == "certbot":
            return run(str(DEPLOY / "certbot-deploy-hook"), **environment)
        names = ("privkey.pem", "cert.pem", "chain.pem", "fullchain.pem")
        files = " ".join(str(lineage / name) for name in names)
        source = f". {DEPLOY}/acme-sh-deploy-hook.sh; triosmtp_deploy mx.example.org {files}"  # as acme.sh calls it
        return run("sh", "-c", source, **environment)

    renew()
    assert deploy().returncode == 0, "the first time there is no server yet"
    file = tls / "mx.example.org.pem"
    assert (oct(file.stat().st_mode), oct(tls.stat().st_mode)) == ("0o100640", "0o40750")
    conf = place.write('Listen "127.0.0.1:0" { }')
    conf.write_text(re.sub(r"TLS_Certificate = .*", f'TLS_Certificate = "{file}"', conf.read_text()))
    with place.serving() as process:
        port = process.port()
        serial = renew()
        done = deploy()
        assert done.returncode == 0, done
        assert served_serial(port) == serial

        authority.issue("another.example", dns=["another.example"]).write(place.folder, "another")
        shutil.copy(place.folder / "another.key", lineage / "privkey.pem")
        done = deploy()
        assert done.returncode != 0, "a key of another certificate"
        assert "NOT loaded" in done.stdout + done.stderr
        assert served_serial(port) == serial
        assert process.stop() == 0
    assert [path.name for path in tls.iterdir()] == ["mx.example.org.pem"], "nothing is left behind"


def test_a_hook_without_a_lineage_says_so() -> None:
    done = run("sh", str(DEPLOY / "certbot-deploy-hook"), RENEWED_LINEAGE="")
    assert done.returncode != 0
    assert "RENEWED_LINEAGE" in done.stderr


@pytest.mark.parametrize("hook", ["certbot-deploy-hook", "acme-sh-deploy-hook.sh"])
def test_shellcheck_finds_nothing(hook: str) -> None:
    done = run(program("shellcheck"), str(DEPLOY / hook))
    assert done.returncode == 0, done.stdout
    assert (DEPLOY / hook).stat().st_mode & 0o111 or hook.endswith(".sh")


# The page, the configuration, and the container


def test_the_lines_of_the_page_come_in_an_order_that_works() -> None:
    page = (REPOSITORY / "docs/deploying.md").read_text()
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(lines) > 10
    order = [
        next(number for number, line in enumerate(lines) if words in line)
        for words in (
            "pip install '.[status]'",
            "useradd",
            "triosmtp.conf",
            "certbot-deploy-hook",
            "check",
            "enable --now",
        )
    ]
    assert order == sorted(order)
    # All of them are for the top of the source tree.
    for line in lines:
        for name in os.listdir(DEPLOY):  # noqa: PTH208
            assert f" {name}" not in line
        for path in re.findall(r" (examples/\S+)", line):
            assert (REPOSITORY / path).is_file(), path
    assert "[status]" in (DEPLOY / "Containerfile").read_text()
    assert "status" in tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_the_configuration_is_that_of_the_units_and_hooks() -> None:
    conf = DEPLOY / "triosmtp.conf"
    config = load_config(conf)
    assert config.warnings == ()
    [listen] = config.listens
    settings = config.resolve(listen, None)
    assert listen.name == ":25"
    assert [str(path) for path in settings.tls_certificate] == ["/etc/triosmtp/tls/mx.example.org.pem"]
    assert [str(each.address.path) for each in config.control_listens] == ["/run/triosmtp/control"]  # type: ignore[union-attr]
    for hook in ("certbot-deploy-hook", "acme-sh-deploy-hook.sh"):
        text = (DEPLOY / hook).read_text()
        assert {"/etc/triosmtp/tls", "/run/triosmtp/control", PROGRAM} <= set(re.findall(r":-([^}]*)}", text))


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line)]


def test_the_containerfile_names_existing_files_and_commands() -> None:
    found = instructions()
    assert [word for word, _ in found if word == "FROM"] == ["FROM", "FROM"]
    for word, rest in found:
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (REPOSITORY / source).exists(), source
        elif word == "RUN":
            assert run("sh", "-n", "-c", rest).returncode == 0
    last = dict(found)
    assert last["USER"] == "10025:10025", "not root"
    entry = json.loads(last["ENTRYPOINT"])
    assert entry == [PROGRAM]
    check = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])
    assert check[0] == PROGRAM
    for arguments in (json.loads(last["CMD"]), check[1:]):
        command_parser().parse_args(arguments)  # or it ends the process
    served = f"{json.loads(last['CMD'])[-1]}"
    assert f"COPY examples/deploy/triosmtp.conf {served}" in (DEPLOY / "Containerfile").read_text()
    assert parse_config((DEPLOY / "triosmtp.conf").read_text()).listens[0].name == f":{last['EXPOSE'].split('/')[0]}"


@pytest.mark.skipif(os.environ.get("TRIOSMTP_JUDGE") != "1", reason="installs everything that triosmtp needs")
def test_the_files_of_the_containerfile_suffice_to_build(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    copied = next(rest for word, rest in instructions() if word == "COPY" and rest.split()[-1] == "/src/")
    for name in copied.split()[:-1]:
        shutil.copy(REPOSITORY / name, source)
    for name in ("triosmtp", "examples", "docs/man", "docs/completion"):
        assert f"COPY {name} /src/{name}" in (DEPLOY / "Containerfile").read_text()
        shutil.copytree(REPOSITORY / name, source / name)
    install = next(rest for word, rest in instructions() if word == "RUN" and "pip install" in rest)
    command = install.replace("/opt/triosmtp", f"{tmp_path}/opt").replace("'/src[", f"'{source}[")
    command = command.replace("python3 -m venv", f"{sys.executable} -m venv")
    done = subprocess.run(["sh", "-ec", command], capture_output=True, check=False, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    version = run(f"{tmp_path}/opt/bin/triosmtp", "--version", PYTHONPATH="")
    assert version.stdout.startswith("triosmtp ")
