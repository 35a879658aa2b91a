"""Server.reload(), for programs that embed the server."""

import gc
import os
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

import triosmtp
from triosmtp import ConfigError, Message, Policy, Reject, Server
from triosmtp.event import (
    CertificateReloadFailed,
    ConfigurationReloaded,
    ConfigurationReloadFailed,
    Disconnected,
    Refused,
    ServerEvent,
)
from triosmtp.testing import Authority, ScriptedClient

BASE = 'Relay_Domains = ( "example.com" ) ESMTP_Listener { Listen "127.0.0.1:0" { %s } %s }'


def conf(body: str = "", more: str = "") -> triosmtp.Config:
    return triosmtp.parse_config(BASE % (body, more))


@asynccontextmanager
async def serving(config: triosmtp.Config, events: list[ServerEvent], **kwargs: object) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        serve = partial(triosmtp.serve, config, observers=(events.append,), **kwargs)  # type: ignore[arg-type]
        yield await nursery.start(serve)
        nursery.cancel_scope.cancel()


async def connect(server: Server) -> ScriptedClient:
    client = ScriptedClient(await trio.open_tcp_stream(*server.addresses["127.0.0.1:0"]))
    assert (await client.read()).code == 220
    await client.command("EHLO me.example.org")
    return client


async def drop(message: Message) -> None:
    return None


class OnlyFriends(Policy):
    async def validate_mailfrom(self, session: object, sender: object, parameters: object) -> None:
        raise Reject(550, "5.7.1", "no friend")


async def test_the_report_and_the_events_of_a_reload() -> None:
    events: list[ServerEvent] = []
    async with serving(conf(), events, deliver=drop) as server:
        address = server.addresses["127.0.0.1:0"]
        client = await connect(server)
        report = await server.reload(conf("Idle_Time = 10", 'Listen "127.0.0.2:0" { }'), reason="a test")
        assert (report.opened, report.closed, report.kept) == (("127.0.0.2:0",), (), ("127.0.0.1:0",))
        assert (report.reason, report.sessions) == ("a test", 1)
        assert report in events
        assert server.addresses["127.0.0.1:0"] == address
        assert set(server.addresses) == {"127.0.0.1:0", "127.0.0.2:0"}
        answer = await client.command("MAIL FROM:<a@example.org>")
        assert str(answer) == "421 4.3.2 Reconfiguration in progress"
        assert await client.read_eof() == b""
        await client.aclose()
        refused = next(event for event in events if isinstance(event, Refused))
        assert (refused.phase, refused.decided_by) == ("mailfrom", "reload")
        while not any(isinstance(event, Disconnected) for event in events):
            await trio.lowlevel.checkpoint()
        assert [event.reason for event in events if isinstance(event, Disconnected)] == ["reconfigured"]


@pytest.mark.parametrize(
    ("message", "extensions", "line"),
    [
        ("4.3.2 Come back", "ENHANCEDSTATUSCODES", "421 4.3.2 Come back"),
        ("4.3.2 Come back", "", "421 Come back"),
        ("Come back", "ENHANCEDSTATUSCODES", "421 4.3.2 Come back"),
        ("4.9.1 Come back", "ENHANCEDSTATUSCODES", "421 4.9.1 Come back"),
    ],
)
async def test_the_text_is_the_one_of_the_configuration_that_the_session_began_with(
    message: str, extensions: str, line: str
) -> None:
    config = conf(f'Reconfig_Message = "{message}" SMTP_Extensions = ( {extensions} )')
    async with serving(config, [], deliver=drop, policy=OnlyFriends()) as server:
        client = await connect(server)
        await server.reload(conf('Reconfig_Message = "another"'))
        # It is the engine's: no policy is asked.
        assert str(await client.command("MAIL FROM:<a@example.org>")) == line
        await client.aclose()


async def test_the_program_keeps_its_policy_and_its_delivery() -> None:
    taken: list[str] = []

    async def deliver(message: Message) -> None:
        taken.append(str(message.envelope.sender))

    async with serving(conf(), [], deliver=deliver, policy=(each for each in [Policy()])) as server:
        await server.reload(conf())
        client = await connect(server)
        assert (await client.message("a@example.org", ["b@example.com"], b"Subject: x\r\n\r\ny\r\n")).code == 250
        assert taken == ["a@example.org"]
        await client.aclose()


async def test_a_reload_with_an_error_changes_nothing_and_raises(tmp_path: Path) -> None:
    events: list[ServerEvent] = []
    async with serving(conf(), events, deliver=drop) as server:
        before = server.service.generation
        client = await connect(server)
        for body, more in (
            (f'TLS_Certificate = "{tmp_path}/none"', 'Listen "127.0.0.2:0" { }'),
            ("", 'Listen "192.0.2.1:0" { } Listen "127.0.0.2:0" { }'),
        ):
            with pytest.raises(ConfigError) as caught:
                await server.reload(conf(body, more))
            failed = events[-1]
            assert isinstance(failed, ConfigurationReloadFailed)
            assert failed.problems == caught.value.problems
        assert server.service.generation is before
        assert set(server.addresses) == {"127.0.0.1:0"}
        assert (await client.command("RSET")).code == 250
        await client.aclose()


async def test_a_reload_that_fails_for_a_certificate_in_force_keeps_that_in_sight(tmp_path: Path) -> None:
    Authority.create().issue("localhost", dns=["localhost"]).write(tmp_path, "server")
    body = f'TLS_Certificate = "{tmp_path}/server.pem" TLS_Key = "{tmp_path}/server.key"'
    config = triosmtp.parse_config(f"TLS_Watch = false {BASE % (body, '')}")
    events: list[ServerEvent] = []
    async with serving(config, events, deliver=drop) as server:
        (before,) = server.service.contexts.contexts()
        good = (tmp_path / "server.key").read_bytes()
        (tmp_path / "server.key").write_bytes(b"junk")
        for _ in range(2):
            with pytest.raises(ConfigError, match=r"server\.key"):
                await server.reload(config)
        assert [event.file for event in events if isinstance(event, CertificateReloadFailed)] == [
            f"{tmp_path}/server.key"
        ]
        assert len(server.service.contexts.problems) == 1
        assert server.service.contexts.contexts() == (before,)
        (tmp_path / "server.key").write_bytes(good)
        await server.reload(config)
        assert list(server.service.contexts.problems) == []
        assert server.service.contexts.contexts() == (before,)


async def test_a_draining_server_does_not_reload() -> None:
    async with serving(conf(), [], deliver=drop) as server:
        client = await connect(server)
        await client.command("MAIL FROM:<a@example.org>")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.aclose)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(ConfigError, match="shutting down"):
                await server.reload(conf())
            await client.aclose()


async def test_reloads_leak_nothing(tmp_path: Path) -> None:
    rounds = 500 if os.environ.get("TRIOSMTP_JUDGE") else 100
    print(f"{rounds} of 500 reloads")
    Authority.create().issue("localhost", dns=["localhost"]).write(tmp_path, "server")
    tls = f'TLS_Certificate = "{tmp_path}/server.pem" TLS_Key = "{tmp_path}/server.key"'
    maildir = f'Deliver_To = "maildir:{tmp_path}/Maildir"'
    one = conf(f"{tls} {maildir}")
    two = conf(f"{tls} {maildir} TLS_Verify_Mode = none TLS_Ciphers = HIGH", 'Listen "127.0.0.2:0" { }')
    events: list[ServerEvent] = []
    async with serving(one, events) as server:
        generations: weakref.WeakSet[object] = weakref.WeakSet()

        async def turn() -> None:
            client = await connect(server)
            for config in (two, one):
                await server.reload(config)
                generations.add(server.service.generation)
            await client.command("RSET")
            await client.aclose()

        for _ in range(3):
            await turn()
        before = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208 - no paths are wanted
        for _ in range(rounds // 2):
            await turn()
        while server.statistics.sessions:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()  # the deliveries of the last generation are closed
        gc.collect()
        assert len(generations) == 1
        after = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
        # Trio keeps a few idle threads, and the watch may just be looking at other folders.
        assert after[0] <= before[0] + 3
        assert after[1] <= before[1] + 3
        assert len(server.service.contexts.contexts()) == 1
        reloads = [event for event in events if isinstance(event, ConfigurationReloaded)]
        assert {event.sessions for event in reloads} >= {1}


async def test_the_watch_follows_its_option(tmp_path: Path) -> None:
    authority = Authority.create()
    authority.issue("localhost", dns=["localhost"]).write(tmp_path, "server")
    body = f'TLS_Certificate = "{tmp_path}/server.pem" TLS_Key = "{tmp_path}/server.key"'
    watched, unwatched = (
        triosmtp.parse_config(f"TLS_Watch = {value} {BASE % (body, '')}") for value in ("true", "false")
    )

    async def renew(server: Server) -> bool:
        """Renew the certificate; return whether that is noticed."""
        generation = server.service.contexts.generation
        adopted = server.service.contexts.adopted
        authority.issue("localhost", dns=["localhost"]).write(tmp_path, "server")
        with trio.move_on_after(3):
            await adopted.wait()
        return server.service.contexts.generation > generation

    async with serving(unwatched, [], deliver=drop) as server:
        assert not await renew(server)
        await server.reload(watched)
        assert await renew(server)
        await server.reload(unwatched)
        assert not await renew(server)
        await server.reload_certificates()
