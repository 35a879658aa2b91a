"""A worker puts in force what it prepared; certificates that were reloaded meanwhile stay."""

import socket
from pathlib import Path

import trio

from triosmtp.auth import MockKey
from triosmtp.config import parse_config
from triosmtp.policy_service.question import Interest
from triosmtp.testing import Authority
from triosmtp.workers import worker as worker_module
from triosmtp.workers.channel import Channel
from triosmtp.workers.handoff import connections_pair
from triosmtp.workers.remote_hub import RemoteHub
from triosmtp.workers.worker_messages import Commit, Prepare, ReloadCertificates, WorkerInit

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
    channel_end, supervisor_end = socket.socketpair()
    theirs, connections = connections_pair()
    with supervisor_end, theirs, connections:
        channel = Channel(channel_end, waits=True)
        init = WorkerInit(
            config=parse_config(conf(tmp_path)), generation=1, interest=Interest(), files={}, mock_key=MockKey()
        )
        hub = RemoteHub(channel, init.interest)
        service = await worker_module._open_service(channel, init, hub)

        def leaf() -> str:
            (context,) = service.contexts.contexts()
            (identity,) = context.material.every_certificate
            return identity.leaf.fingerprint_sha256

        async with trio.open_nursery() as nursery:
            worker = worker_module._Worker(service, hub, channel, connections, 1, sessions=nursery, background=nursery)
            first = leaf()
            await worker._prepare(Prepare(parse_config(conf(tmp_path, 'Banner_Hostname = "two.example"'))))
            issue(tmp_path, authority)
            assert await worker._reload_certificates(ReloadCertificates("watch")) == []
            second = leaf()
            assert second != first
            generation = service.contexts.generation
            # A problem of the files stays recorded, too.
            (tmp_path / "server.pem").write_text("nonsense")
            assert len(await worker._reload_certificates(ReloadCertificates("watch"))) == 1
            worker._commit(Commit(2))
            assert leaf() == second
            assert service.contexts.generation == generation
            assert len(service.contexts.problems) == 1
            assert service.config.base.banner_hostname == "two.example"
            # New settings of the second configuration are in force with it.
            issue(tmp_path, authority)
            await worker._prepare(Prepare(parse_config(conf(tmp_path, "TLS_Protocols = +TLSv1.3"))))
            worker._commit(Commit(3))
            assert leaf() not in {first, second}
        channel.close()
