"""Deliver_To = "nats://…": a server with a configuration, and a real server of NATS."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from command_line import run
from consume_site import CONFIGURATION as CONSUMER_CONFIGURATION
from consume_site import make_site
from nats_servers import OBJECT_BUCKET, STREAM, JetStream, NATSProcess, free_ports, run_nats
from serve_process import COMMAND, REPOSITORY, environment_of, run_server
from status_server import get, serving

from triosmtp.config import parse_config
from triosmtp.errors import ConfigError
from triosmtp.jetstream import stream_delivery
from triosmtp.jetstream.message_codec import decode_message
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

CONFIGURATION = """
Node_Name = "mx1"
Relay_Domains = ( "example.org" "example.net" )
Deliver_To = "nats://127.0.0.1:{port}/MAIL/mail.in?replicas=1"
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
"""
BODY = b"Subject: hello\r\n\r\ntext\r\n"


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NATSProcess]:
    with run_nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def jetstream(nats_server: NATSProcess) -> JetStream:
    jetstream = JetStream(nats_server)
    jetstream.make(STREAM)
    jetstream.make(OBJECT_BUCKET)
    return jetstream


async def send_mail(server: MemoryServer, *recipients: str) -> int:
    """Send one message, and return the code of the last reply."""
    client = server.connect()
    await client.read()
    await client.command("EHLO c.example")
    answer = await client.message("me@example.com", list(recipients), BODY)
    await client.aclose()
    return answer.code


def configuration(server: NATSProcess, more: str = "") -> str:
    return CONFIGURATION.format(port=server.port) + more


async def test_mail_is_in_the_stream_with_the_name_of_the_node_in_its_id(
    nats_server: NATSProcess, jetstream: JetStream
) -> None:
    async with open_memory_server(configuration(nats_server), use_deliver_to=True) as server:
        assert await send_mail(server, "joe@example.org", "ann@example.org") == 250
    ((subject, payload),) = jetstream.messages().items()
    found = decode_message(payload)
    assert subject == f"mail.in.{found.document.id}"
    assert found.document.id.startswith("mx1-")
    assert found.document.node == "mx1"
    assert [str(each) for each in found.document.envelope.recipients] == ["joe@example.org", "ann@example.org"]
    assert found.octets.endswith(BODY)
    assert found.octets.startswith(b"Received: ")
    assert f"id {found.document.id}".encode() in found.octets


async def test_parts_of_one_message_are_all_stored(nats_server: NATSProcess, jetstream: JetStream) -> None:
    """Two recipients have the stream in different lists of targets: the stream must not take one part for the other."""
    target = f"nats://127.0.0.1:{nats_server.port}/MAIL/mail.in?replicas=1"
    text = configuration(nats_server, f'Domain "example.net" {{ Deliver_To = ( "{target}" "discard:" ) }}')
    async with open_memory_server(text, use_deliver_to=True) as server:
        assert await send_mail(server, "joe@example.org", "ann@example.net") == 250
    documents = [decode_message(payload).document for payload in jetstream.messages().values()]
    assert len({each.id for each in documents}) == 1
    recipients = [str(recipient) for each in documents for recipient in each.envelope.recipients]
    assert sorted(recipients) == ["ann@example.net", "joe@example.org"]


async def test_a_stream_that_is_gone_is_451_and_its_return_is_noticed(
    nats_server: NATSProcess, jetstream: JetStream
) -> None:
    text = configuration(nats_server).replace(
        f'"nats://127.0.0.1:{nats_server.port}/MAIL/mail.in?replicas=1"', '"stream"'
    )
    scope = (
        f'Delivery "stream" {{ Deliver_To = "nats://127.0.0.1:{nats_server.port}/MAIL/mail.in?replicas=1" '
        "Body_Timeout = 0.5 }"
    )
    async with open_memory_server(text + scope, use_deliver_to=True) as server:
        jetstream.ask("STREAM.DELETE.MAIL")
        assert await send_mail(server, "joe@example.org") == 451
        jetstream.make(STREAM)
        assert await send_mail(server, "joe@example.org") == 250
    assert len(jetstream.messages()) == 1


# Start, reload, check


async def test_a_start_and_a_reload_refuse_a_misconfigured_stream(
    nats_server: NATSProcess, jetstream: JetStream
) -> None:
    jetstream.make({**STREAM, "storage": "memory", "max_age": 3_600_000_000_000})
    text = configuration(nats_server)
    with pytest.raises(ConfigError) as caught:
        async with open_memory_server(text, use_deliver_to=True):
            raise AssertionError
    problems = [str(each) for each in caught.value.problems]
    assert ["storage" in each for each in problems] == [True, False]
    assert "max_age" in problems[1]
    assert problems[0].startswith("<string>:4:14: error: Deliver_To: nats://")
    other = text.replace(f"nats://127.0.0.1:{nats_server.port}/MAIL/mail.in?replicas=1", "discard:")
    async with serving(f'{other} Status_Listener {{ Listen "127.0.0.1:0" {{ }} }}') as running:
        with pytest.raises(ConfigError, match="storage"):
            await running.server.reload(parse_config(text))
        jetstream.make(STREAM)
        await running.server.reload(parse_config(text))


async def test_an_unreachable_stream_is_no_error_but_the_server_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mail is 451 until the stream answers; then the server is ready."""
    monkeypatch.setattr(stream_delivery, "_FACTS_WAIT", 0.2)
    with run_nats(tmp_path) as nats_server:
        jetstream = JetStream(nats_server)
        jetstream.make(STREAM)
        jetstream.make(OBJECT_BUCKET)
        nats_server.kill()
        text = configuration(nats_server, 'Status_Listener { Listen "127.0.0.1:0" { } }')
        async with serving(text) as running:
            ready = await get(running.port, "/readyz")
            assert (ready.status, "nats://" in ready.body) == (503, True)
            assert await send(running.mail_port) == 451
            (target,) = running.server.service.profiles.targets._targets.values()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(target.health.wait_turn)
                await trio.to_thread.run_sync(nats_server.start)
            assert (await get(running.port, "/readyz")).status == 200
            assert await send(running.mail_port) == 250


async def send(port: int) -> int:
    """Send a message to a port, and return the code of the last reply."""
    client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", port))
    await client.read()
    await client.command("EHLO c.example")
    answer = await client.message("me@example.com", ["joe@example.org"], BODY)
    await client.aclose()
    return answer.code


@pytest.fixture
def check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Return a function that runs `triosmtp check` for a configuration; it returns the exit status and stderr."""
    monkeypatch.setattr(stream_delivery, "_FACTS_WAIT", 0.5)

    def run_check(text: str, *arguments: str) -> tuple[int, str]:
        path = tmp_path / "server.conf"
        path.write_text(text)
        found = run(capsys, "check", "-c", str(path), *arguments)
        return found.code, found.err

    return run_check


def test_check_asks_the_stream_only_if_it_is_told_to(
    check: Callable[..., tuple[int, str]], nats_server: NATSProcess, jetstream: JetStream
) -> None:
    jetstream.make({**STREAM, "no_ack": True})
    text = configuration(nats_server)
    assert check(text) == (0, "")
    status, errors = check(text, "--connect")
    assert (status, "no_ack" in errors) == (78, True)
    jetstream.make(STREAM)
    assert check(text, "--connect") == (0, "")
    (port,) = free_ports(1)
    status, errors = check(CONFIGURATION.format(port=port), "--connect")
    assert (status, "not available" in errors) == (78, True)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('Node_Name = "mx1"', "", "needs a Node_Name"),
        ('Node_Name = "mx1"', 'Node_Name = "mx.1"', "expected 1 to 32 characters"),
        ("nats://", "nats://user:geheim@", "Credentials_File"),
        ("?replicas=1", "?replicas=9", "replicas"),
        ("/mail.in", "/mail.*", "subject without wildcards"),
        ("/mail.in", "/$JS.in", "subject without wildcards"),
        ("Relay_Domains", 'Publish_Events = "nats://user:geheim@x/y" Relay_Domains', "Credentials_File"),
        ("Relay_Domains", 'Publish_Events = "nats://x/*" Relay_Domains', "expected nats://host"),
        ("Relay_Domains", 'Publish_Events = "https://x/y" Relay_Domains', "expected nats://host"),
    ],
)
def test_errors_of_the_configuration_are_named(
    check: Callable[..., tuple[int, str]], old: str, new: str, expected: str
) -> None:
    status, errors = check(CONFIGURATION.format(port=4222).replace(old, new))
    assert (status, expected in errors, "geheim" in errors) == (78, True, False)


DELIVERY = """
Node_Name = "mx1"
Deliver_To = "stream"
Delivery "stream" {{ Deliver_To = "nats://nats.example.org/MAIL/mail.in" {} }}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ('Credentials_File = "missing.creds"', "missing.creds: No such file"),
        ('Credentials_File = "server.conf"', "expected a NATS USER JWT"),
        ('TLS_CA = "server.conf"', "TLS_CA: cannot be used"),
        ('TLS_CA = "missing.pem"', "TLS_CA: cannot be used"),
        ('Auth_User = "u" Auth_Password_File = "missing"', "missing: No such file"),
    ],
)
def test_files_of_a_delivery_are_read_by_check(
    check: Callable[..., tuple[int, str]], options: str, expected: str
) -> None:
    status, errors = check(DELIVERY.format(options))
    assert (status, expected in errors) == (78, True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [("", ""), ('Credentials_File = "missing.creds"', "missing.creds: No such file"), ('TLS_CA = "x.pem"', "TLS_CA")],
)
def test_the_files_of_a_consumer_are_read_by_check(
    check: Callable[..., tuple[int, str]], options: str, expected: str
) -> None:
    queue = f'Delivery "queue" {{ Deliver_To = "nats://127.0.0.1/MAIL/mail.in" {options} }}'
    consumer = 'Consumer "c" { Read_From = "queue" Deliver_To = "maildir:/x" Failure_Subject = "f" }'
    status, errors = check(f"{queue} {consumer}")
    assert (status, expected in errors) == (78 if expected else 0, True)


def test_check_asks_what_a_consumer_needs(
    check: Callable[..., tuple[int, str]], nats_server: NATSProcess, jetstream: JetStream
) -> None:
    make_site(jetstream)
    text = CONSUMER_CONFIGURATION.format(port=nats_server.port, target="maildir:/x", options="")
    assert check(text, "--connect") == (0, "")
    jetstream.ask("STREAM.DELETE.KV_MAIL-results")
    jetstream.ask("STREAM.DELETE.FAILED")
    jetstream.make({**OBJECT_BUCKET, "storage": "memory"})
    assert check(text) == (0, "")
    status, errors = check(text.replace("maildir:/x", f"lmtp://127.0.0.1:{free_ports(1)[0]}"), "--connect")
    assert status == 78
    for expected in (
        "Consumer mailbox: there is no key-value bucket MAIL-results",
        "Consumer mailbox: Failure_Subject: no stream has",
        "Consumer mailbox: object bucket: storage",
        "no connection: Connection refused",
    ):
        assert expected in errors
    jetstream.ask("CONSUMER.DELETE.MAIL.triosmtp")
    assert "the stream MAIL has no consumer triosmtp" in check(text, "--connect")[1]
    away = CONSUMER_CONFIGURATION.format(port=free_ports(1)[0], target="maildir:/x", options="")
    assert "Consumer mailbox: not available: nats://" in check(away, "--connect")[1]


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['nats'] = None\n"
        "from triosmtp.cli import main\n"
        "for name in sys.argv[1:]: print(main(['check', '-c', name]))"
    )
    events = 'Node_Name = "mx1" Publish_Events = "nats://127.0.0.1/x" ESMTP_Listener { Listen "127.0.0.1:0" { } }'
    texts = (CONFIGURATION.format(port=4222), events, 'ESMTP_Listener { Listen "127.0.0.1:0" { } }')
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.conf").write_text(text)
    names = [str(tmp_path / f"{number}.conf") for number in range(3)]
    found = subprocess.run(
        [sys.executable, "-c", program, *names],
        check=True, capture_output=True, text=True, env=environment_of(), cwd=REPOSITORY,
    )  # fmt: skip
    assert found.stdout.split("\n")[:2] == ["78", "78"]
    assert found.stdout.endswith("0\n")
    assert found.stderr.count('pip install "triosmtp[nats]"') == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_events_of_a_node_are_watched_through_nats(tmp_path: Path, nats_server: NATSProcess, workers: int) -> None:
    """`triosmtp policy watch --url nats://…` prints them; with Workers, too."""
    url = f"nats://127.0.0.1:{nats_server.port}/triosmtp.events"
    config = tmp_path / "server.conf"
    config.write_text(
        f'Node_Name = "mx1"\nWorkers = {workers}\nPublish_Events = "{url}"\nDeliver_To = "discard:"\n'
        'Relay_Domains = ( "example.org" )\nESMTP_Listener { Listen "127.0.0.1:0" { } }\n'
    )
    watch = subprocess.Popen(
        [*COMMAND, "policy", "watch", "--url", url, "--json", "--filter", "method=message.*"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment_of(),
    )  # fmt: skip
    with watch:
        try:
            assert watch.stderr is not None
            assert watch.stdout is not None
            assert "connected" in watch.stderr.readline()
            arguments = ("-c", str(config), "--control", str(tmp_path / "control"))
            with run_server(*arguments, log=tmp_path / "log") as server:
                server.wait_until_ready()
                assert trio.run(send, server.port()) == 250
                event = json.loads(watch.stdout.readline())
                assert server.stop() == 0
        finally:
            watch.terminate()
    assert watch.returncode == 0
    assert (event["method"], event["node"], event["sender"]) == ("message.accepted", "mx1", "me@example.com")
    assert event["message"].startswith("mx1-")
