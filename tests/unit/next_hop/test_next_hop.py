"""The delivery to a next hop: what it honours, its background task, and its use without transactions."""

import logging
from pathlib import Path

import pytest
import trio
import trio.testing
from scripted_hop import EXTENSIONS, ScriptedHop, connected, hop_settings, message, next_hop
from tls_peers import root

from triosmtp.delivery import DeliveryError
from triosmtp.errors import Reject
from triosmtp.next_hop import hop_connector
from triosmtp.tls import client_context
from triosmtp.tls.client_context import ClientTLSSettings


async def test_it_honours_what_the_hop_declared_at_its_last_ehlo(tmp_path: Path) -> None:
    hop = ScriptedHop(extensions=(*EXTENSIONS, "DSN"))
    async with connected(tmp_path, hop) as (delivery, _):
        assert delivery.honours == frozenset(), "nothing is known yet"
        async with trio.open_nursery() as nursery:
            await nursery.start(delivery.run)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        assert delivery.honours == {"DSN"}
        hop.extensions = EXTENSIONS
        assert await delivery.probe() == ""
        assert delivery.honours == frozenset()


async def test_a_hop_that_fails_at_the_start_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    delivery, health = next_hop(hop_settings(tmp_path / "nobody"))
    with caplog.at_level(logging.WARNING, "triosmtp.delivery"):
        async with trio.open_nursery() as nursery:
            await nursery.start(delivery.run)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
    assert "hop cannot be used now" in caplog.text
    assert health.failing_since is not None


async def test_deliver_for_library_users(tmp_path: Path) -> None:
    hop = ScriptedHop({"RCPT no@example.com": "550 5.1.1 No such user", "RCPT later@example.com": "450 4.2.1 Later"})
    async with connected(tmp_path, hop) as (delivery, health):
        await delivery.deliver(message("a@example.com"))
        with pytest.raises(Reject) as refused:
            await delivery.deliver(message("a@example.com", "no@example.com"))
        assert (refused.value.code, refused.value.enhanced, refused.value.text) == (550, "5.1.1", "No such user")
        with pytest.raises(DeliveryError, match=r"450 4\.2\.1 Later"):
            await delivery.deliver(message("no@example.com", "later@example.com"))
        assert health.connections == 1
    assert str(delivery) == "hop"
    assert health.connections == 0


async def test_a_broken_file_is_logged_without_a_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hop_connector, "_WATCH", 0.01)
    monkeypatch.setattr(client_context, "_LOOK", 0.0)
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(root().certificate_pem)
    delivery, _ = next_hop(hop_settings(tmp_path / "nobody", tls_files=ClientTLSSettings(ca=bundle)))
    await trio.to_thread.run_sync(delivery._hop.connector._context.refresh)
    bundle.write_text("junk")
    with caplog.at_level(logging.ERROR, "triosmtp.tls"), trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(delivery.run)
            while "stay in use" not in caplog.text:
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert f'TLS_CA "{bundle}"' in caplog.text
