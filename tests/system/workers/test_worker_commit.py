"""A worker puts in force what it prepared; certificates that were reloaded meanwhile stay."""

import socket
from pathlib import Path

import trio

from triosmtp.auth import MockKey
from triosmtp.config import parse_config
from triosmtp.policy_service.question import Interest
from triosmtp.testing import Authority
from triosmtp.workers.handoff import WorkerInit, connections_pair
from triosmtp.workers.worker import _Worker

CONF = """
TLS_Certificate = "{folder}/server.pem" TLS_Key = "{folder}/server.key"
{more}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ SMTP_Extensions = ( "STARTTLS" ) }} }}
"""


def conf(folder: Path, more: str = "") -> str:
    return CONF.format(folder=folder, more=more)


def issue(folder: Path, authority: Authority) -> None:
    authority.issue("localhost", dns=["localhost"]).write(folder, "server")


async def test_a_commit_does_not_bring_back_certificates_from_before_a_reload(tmp_path: Path) -> None:
    authority = Authority.create()
    issue(tmp_path, authority)
    (ours, values), (theirs, connections) = socket.socketpair(), connections_pair()
    with ours, values, theirs, connections:
        worker = _Worker(values, connections)

        def leaf() -> str:
            (context,) = worker._running.contexts.contexts()
            (identity,) = context.material.every_certificate
            return identity.leaf.fingerprint_sha256

        start = WorkerInit(
            config=parse_config(conf(tmp_path)), generation=1, interest=Interest(), files={}, mock_key=MockKey()
        )
        await worker._start(start)
        async with trio.open_nursery() as worker._background:
            first = leaf()
            await worker._prepare(parse_config(conf(tmp_path, 'Banner_Hostname = "two.example"')))
            issue(tmp_path, authority)
            assert await worker._reload_certificates("watch") == []
            second = leaf()
            assert second != first
            generation = worker._running.contexts.generation
            # What cannot be used stays told, too.
            (tmp_path / "server.pem").write_text("nonsense")
            assert len(await worker._reload_certificates("watch")) == 1
            worker._commit(2)
            assert leaf() == second
            assert worker._running.contexts.generation == generation
            assert len(worker._running.contexts.problems) == 1
            assert worker._running.config.base.banner_hostname == "two.example"
            # Settings that are new in the second configuration come with it.
            issue(tmp_path, authority)
            await worker._prepare(parse_config(conf(tmp_path, "TLS_Protocols = +TLSv1.3")))
            worker._commit(3)
            assert leaf() not in {first, second}
