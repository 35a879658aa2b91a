"""The permissions that the page about JetStream shows are enough for a node and for a consumer."""

import os
import re
from pathlib import Path

import pytest
import trio
from consume_site import CONFIGURATION, envelope, mails, make_site, wait_empty
from nats_servers import OBJECT_BUCKET, STREAM, JetStream, run_nats
from stream_messages import stream_message
from stream_site import open_delivery

from triosmtp.commands import consume
from triosmtp.config import load_config
from triosmtp.jetstream import consumer_runner
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


async def test_a_consumer_with_the_documented_permissions_can_do_all_of_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = re.search(r"<!-- consumer permissions -->\n```\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    password, config = tmp_path / "password", tmp_path / "consume.conf"
    password.write_text("secret")
    monkeypatch.setitem(os.environ, "C1_PASSWORD", "secret")
    with run_nats(tmp_path / "n", found[1].replace("users: [", f"users: [ {ADMIN}\n")) as server:
        jetstream = JetStream(server, user="admin", password="a")
        make_site(jetstream)
        admin = tmp_path / "admin"
        admin.write_text("a")
        async with open_delivery(server, login=NATSLogin(user="admin", password_file=admin)) as delivery:
            await delivery.deliver(stream_message(1, envelope=envelope("joe", "ann")))
            await delivery.deliver(stream_message(2, b"x" * 2_000_000))
            await delivery.deliver(stream_message(3, envelope=envelope("late")))
        config.write_text(CONFIGURATION.format(port=server.port, target=f"maildir:{tmp_path}/Maildir", options=""))
        login = NATSLogin(user="c1", password_file=password)
        monkeypatch.setattr(consumer_runner, "make_login", lambda _: login)
        loaded = load_config(config)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consume._run_consumer, loaded, "mailbox", loaded.consumers["mailbox"])
            await trio.to_thread.run_sync(wait_empty, jetstream)
            nursery.cancel_scope.cancel()
        log = "".join(server.log)
    assert len(mails(tmp_path / "Maildir")) == 4
    assert "Permissions Violation" not in log


def test_the_documented_commands_make_streams_that_are_right() -> None:
    """The options of the commands, by their names; the program itself is not needed here."""
    (command,) = re.findall(r"^nats stream add MAIL (.*)$", PAGE, re.MULTILINE)
    options = dict(re.findall(r"--([a-z-]+)='?([^' ]+)'?", command))
    assert options == {
        "subjects": "mail.in.>", "storage": "file", "replicas": "3", "retention": "work", "discard": "new",
        "dupe-window": "2m",
    }  # fmt: skip
