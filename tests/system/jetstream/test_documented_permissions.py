"""The permissions that the page about JetStream shows are enough for a node, and for nothing else."""

import os
import re
from pathlib import Path

import pytest
from nats_servers import OBJECT_BUCKET, STREAM, JetStream, run_nats
from stream_messages import stream_message
from stream_site import open_delivery

from triosmtp.jetstream.nats_client import NATSLogin

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/jetstream.md").read_text()
ADMIN = '{ user: admin, password: a, permissions: { publish: ">", subscribe: ">" } }'


async def test_a_node_with_the_documented_permissions_can_publish_and_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = re.search(r"<!-- permissions -->\n```\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    config = found[1].replace("users: [", f"users: [ {ADMIN}\n")
    password = tmp_path / "password"
    password.write_text("secret")
    monkeypatch.setitem(os.environ, "MX1_PASSWORD", "secret")
    with run_nats(tmp_path / "n", config) as server:
        jetstream = JetStream(server, user="admin", password="a")
        jetstream.make(STREAM)
        jetstream.make(OBJECT_BUCKET)
        async with open_delivery(server, login=NATSLogin(user="mx1", password_file=password)) as delivery:
            assert (await delivery.query()).problems == ()
            await delivery.deliver(stream_message(1))
            await delivery.deliver(stream_message(2, b"x" * 2_000_000))
        assert len(jetstream.messages()) == 2
        log = "".join(server.log)
    assert "Permissions Violation" not in log


def test_the_documented_commands_make_streams_that_are_right() -> None:
    """The options of the commands, by their names; the program itself is not needed here."""
    (command,) = re.findall(r"^nats stream add MAIL (.*)$", PAGE, re.MULTILINE)
    options = dict(re.findall(r"--([a-z-]+)='?([^' ]+)'?", command))
    assert options == {
        "subjects": "mail.in.>", "storage": "file", "replicas": "3", "retention": "work", "discard": "new",
        "dupe-window": "2m",
    }  # fmt: skip
