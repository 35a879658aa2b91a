"""Other renewals than of a pair, what stays after one, and what the watching costs."""

import gc
import os
import resource
import shutil
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from weakref import ref

import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding
from layouts import AcmeSh, Certbot, Kubernetes, Layout, StepCA
from renewal_server import House, fingerprint, issue, open_house, scaled
from trio.testing import wait_all_tasks_blocked
from watchfiles._rust_notify import RustNotify

from triosmtp.event import CertificateExpiring, CertificateReloadFailed, CertificatesReloaded, TLSEstablished
from triosmtp.testing import ScriptedClient
from triosmtp.tls import CertificateFiles, ContextStore, TLSSettings, certificate_renewal
from triosmtp.tls.certificate_renewal import CertificateEvent, reload_certificates, watch_certificates
from triosmtp.tls.inotify import Inotify
from triosmtp.x509.authority import Authority

FIRST: Final = "127.0.0.1:0"


async def renew(house: House, layout: Layout, **options: str) -> str:
    credential = house.issue(**options)
    await layout.put(credential.certificate_pem, credential.key_pem)
    await house.told.wait_for_set(credential)
    return fingerprint(credential)


async def test_from_rsa_to_ecdsa_and_back(tmp_path: Path) -> None:
    layout, authority = Certbot(tmp_path / "tls"), Authority.create()
    rsa = issue(authority, key_type="RSA-2048")
    async with open_house(tmp_path, [layout], authority=authority, first=rsa) as house:
        old_client = house.client_tls(ssl.TLSVersion.TLSv1_2)
        for key_type, cipher in (("P-256", "ECDSA"), ("RSA-2048", "RSA"), ("P-384", "ECDSA")):
            expected = await renew(house, layout, key_type=key_type)
            client = await house.connect(FIRST, old_client)
            assert isinstance(client.stream, trio.SSLStream)
            assert f"-{cipher}-" in client.stream.cipher()[0]
            await client.aclose()
            assert await house.served(FIRST, house.client_tls()) == expected


async def verified(house: House, tls: ssl.SSLContext) -> bool:
    """Return whether the server verifies a client that begins a session now."""
    since = len(house.told.events)
    await house.served(FIRST, tls)
    return (await house.told.wait(TLSEstablished, since=since)).tls.verified


async def test_a_removed_client_authority_verifies_no_certificate(tmp_path: Path) -> None:
    mine, other = Authority.create("client CA"), Authority.create("other CA")
    bundle = tmp_path / "clients.pem"
    bundle.write_bytes(mine.certificate_pem + other.certificate_pem)
    async with open_house(tmp_path, [AcmeSh(tmp_path / "tls")], f'TLS_Client_CA = "{bundle}"') as house:
        tls = house.client_tls(credential=mine.issue("client.example", usage=["client"]))
        assert await verified(house, tls)
        under_way = await house.connect(FIRST, tls)

        bundle.write_bytes(other.certificate_pem)
        event = await house.told.wait(CertificatesReloaded)
        assert event.changed == (str(bundle),)
        assert not await verified(house, tls)
        assert (await under_way.command("NOOP")).code == 250
        await under_way.aclose()

        bundle.write_bytes(b"junk")
        failure = await house.told.wait(CertificateReloadFailed)
        assert failure.option == "TLS_Client_CA"
        bundle.write_bytes(mine.certificate_pem)
        await house.told.wait(CertificatesReloaded, lambda event: event.generation == 3)
        assert await verified(house, tls)


async def test_a_revocation_list_alone(tmp_path: Path) -> None:
    mine = Authority.create("client CA")
    credential = mine.issue("client.example", usage=["client"])
    bundle, revocations = tmp_path / "clients.pem", tmp_path / "clients.crl"
    bundle.write_bytes(mine.certificate_pem)
    revocations.write_bytes(mine.revocation_list().public_bytes(Encoding.PEM))
    options = f'TLS_Client_CA = "{bundle}" TLS_Client_CRL = "{revocations}"'
    async with open_house(tmp_path, [AcmeSh(tmp_path / "tls")], options) as house:
        tls = house.client_tls(credential=credential)
        assert await verified(house, tls)
        revocations.write_bytes(mine.revocation_list([credential.certificate]).public_bytes(Encoding.PEM))
        event = await house.told.wait(CertificatesReloaded)
        assert event.changed == (str(revocations),)
        assert not await verified(house, tls)


async def test_a_folder_that_was_removed_and_made_again_is_watched_as_before(tmp_path: Path) -> None:
    root = tmp_path / "far/away/tls"
    root.parent.mkdir(parents=True)
    async with open_house(tmp_path, [StepCA(root)]) as house:
        for _ in range(2):
            since = len(house.told.events)
            shutil.rmtree(tmp_path / "far")
            failure = await house.told.wait_for_failure(root, since)
            assert failure.reason == "does not exist"
            root.parent.mkdir(parents=True)
            again = StepCA(root)
            for _ in range(2):
                expected = await renew(house, again)
                assert await house.served(FIRST, house.client_tls()) == expected
        assert not house.store.problems


async def test_a_session_keeps_the_context_it_began_with_and_the_last_one_frees_it(tmp_path: Path) -> None:
    layout = Kubernetes(tmp_path / "tls")
    async with open_house(tmp_path, [layout]) as house:
        tls = house.client_tls()
        clients = [await house.connect(FIRST, tls) for _ in range(2)]
        (context,) = house.store.contexts()
        assert context.sessions == 2
        alive = ref(context.context)
        await renew(house, layout)
        new = await house.connect(FIRST, tls)
        assert (context.sessions, house.store.contexts()[0].sessions) == (2, 1)
        del context
        for client in clients:
            gc.collect()
            assert alive() is not None
            await client.command("EHLO again.example.org")
            body = b"Subject: old\r\n\r\nhello\r\n"
            assert (await client.message("a@example.org", ["b@example.com"], body)).code == 250
            await goodbye(client)
        await goodbye(new)
        gc.collect()
        assert alive() is None


async def goodbye(client: ScriptedClient) -> None:
    """Leave, and see the server do so, too."""
    assert (await client.command("QUIT")).code == 221
    await client.read_eof()
    await client.aclose()
    await wait_all_tasks_blocked()  # the server has nothing more to do for it


async def test_a_change_without_a_notification_is_found(tmp_path: Path) -> None:
    """As on a network file system: here the files are written to by other names, in folders that nobody watches."""
    authority = Authority.create()
    folder, elsewhere = tmp_path / "tls", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    certificate, key = issue(authority).write(folder, "mx")
    for path in (certificate, key):
        os.link(path, elsewhere / path.name)
    settings = TLSSettings(certificates=(CertificateFiles(certificate, key),))
    store = ContextStore()
    store.prepare(settings)
    told: list[CertificateEvent] = []
    reloaded = trio.Event()

    def tell(event: CertificateEvent) -> None:
        told.append(event)
        reloaded.set()

    async with trio.open_nursery() as nursery:

        async def watch(*, task_status: trio.TaskStatus[None]) -> None:
            await watch_certificates(store, lambda: [settings], tell, rescan=0.2, task_status=task_status)

        await nursery.start(watch)
        good = issue(authority)
        (elsewhere / key.name).write_bytes(good.key_pem)
        (elsewhere / certificate.name).write_bytes(good.certificate_pem)
        with trio.fail_after(30):
            while fingerprint(good) != store.get(settings).material.certificates[0].leaf.fingerprint_sha256:
                reloaded = trio.Event()
                await reloaded.wait()
        nursery.cancel_scope.cancel()
    assert isinstance(told[-1], CertificatesReloaded)


def in_store(folder: Path) -> tuple[ContextStore, TLSSettings]:
    certificate, key = issue(Authority.create()).write(folder, "mx")
    settings = TLSSettings(certificates=(CertificateFiles(certificate, key),))
    store = ContextStore()
    store.prepare(settings)
    return store, settings


async def test_a_question_that_is_late_does_not_find_its_watch_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load a round may end before the thread that asks watchfiles has had its turn."""
    token, opened, asking, late = trio.lowlevel.current_trio_token(), trio.Event(), trio.Event(), threading.Event()

    class LateWatch:
        """The real one, whose thread comes late."""

        def __init__(self, *arguments: Any) -> None:
            self.real = RustNotify(*arguments)
            self.close = self.real.close

        def watch(self, *arguments: Any) -> object:
            token.run_sync_soon(asking.set)
            late.wait(30)
            return self.real.watch(*arguments)

    class OpenedInotify(Inotify):
        """The real one, which is opened last."""

        def __init__(self, folders: Iterable[str]) -> None:
            super().__init__(folders)
            token.run_sync_soon(opened.set)

    async def change() -> None:
        nonlocal asking, opened
        await opened.wait()
        opened, asking = trio.Event(), trio.Event()
        (tmp_path / "another file").write_bytes(b"")
        await asking.wait()

    monkeypatch.setattr(certificate_renewal, "RustNotify", LateWatch)
    monkeypatch.setattr(certificate_renewal, "Inotify", OpenedInotify)
    monkeypatch.setattr(certificate_renewal, "_QUIET", 0)
    monkeypatch.setattr(certificate_renewal, "_GATHER", 0)
    store, settings = in_store(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_certificates, store, lambda: [settings], lambda _event: None)
        await change()
        store.adopted.set()  # the round ends
        store.adopted = trio.Event()
        await wait_all_tasks_blocked()
        late.set()
        await change()  # in the next round
        nursery.cancel_scope.cancel()


async def test_no_descriptor_for_a_watch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The files are read all the same, in each round, and watched again when there is one."""
    store, settings = in_store(tmp_path)
    rounds = trio.Event()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []

    def wanted() -> list[TLSSettings]:
        rounds.set()
        return [settings]

    async def until(reached: Callable[[], bool]) -> None:
        nonlocal rounds
        with trio.fail_after(30):
            while not reached():
                rounds = trio.Event()
                await rounds.wait()

    async def watch(*, task_status: trio.TaskStatus[None]) -> None:
        await watch_certificates(store, wanted, lambda _event: None, rescan=0.01, task_status=task_status)

    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
            with suppress(OSError):
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            await until(lambda: "cannot be watched" in caplog.text)
            while taken:
                os.close(taken.pop())
            good = issue(Authority.create())
            good.write(tmp_path, "mx")
            await until(
                lambda: fingerprint(good) == store.get(settings).material.certificates[0].leaf.fingerprint_sha256
            )
            nursery.cancel_scope.cancel()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in taken:
            os.close(each)


async def test_a_near_expiry_is_logged_once(tmp_path: Path) -> None:
    layout, authority = AcmeSh(tmp_path / "tls"), Authority.create()
    first = issue(authority, not_after=datetime.now(UTC) + timedelta(days=6.5))
    async with open_house(tmp_path, [layout], authority=authority, first=first) as house:
        event = await house.told.wait(CertificateExpiring)
        assert (event.file, event.days) == (str(layout.certificate), 6)
        await renew(house, layout)
        await renew(house, layout)
        assert sum(isinstance(event, CertificateExpiring) for event in house.told.events) == 1


def resident() -> int:
    """Return bytes of memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_many_reloads_leak_nothing(tmp_path: Path) -> None:
    reloads = scaled(500, 100)
    layout = StepCA(tmp_path / "tls")
    async with open_house(tmp_path, [layout]) as house:
        tls, service = house.client_tls(), house.server.service
        credentials = [house.issue() for _ in range(2)]
        contexts = []

        async def reload(number: int) -> None:
            contexts.append(ref(house.store.contexts()[0].context))
            credential = credentials[number % 2]
            if number % 5:
                async with house.store.lock:  # so that the watcher does not come first
                    await layout.put(credential.certificate_pem, credential.key_pem)
                await reload_certificates(house.store, service.tls_settings, service.emit, reason="test")
            else:
                since = len(house.told.events)
                await layout.put(credential.certificate_pem, credential.key_pem)
                await house.told.wait(CertificatesReloaded, lambda e: e.reason == "watch", since)
            assert await house.served(FIRST, tls) == fingerprint(credential)

        for number in range(20):  # until every pool and cache is filled
            await reload(number)
        gc.collect()
        before = resident(), descriptors(), threading.active_count()
        for number in range(20, 20 + reloads):
            await reload(number)
            house.told.events.clear()
        await wait_all_tasks_blocked()  # the last session is over for the server, too
        gc.collect()
        after = resident(), descriptors(), threading.active_count()
        alive = sum(context() is not None for context in contexts)
    grown = [new - old for new, old in zip(after, before, strict=True)]
    print(
        f"{reloads} reloads: {grown[0] / 1024:+.0f} KiB of {before[0] >> 10}, "
        f"{grown[1]:+d} descriptors of {before[1]}, {grown[2]:+d} threads of {before[2]}, {alive} contexts left"
    )
    assert grown[0] < 4 << 20
    assert grown[1] <= 4  # a watch that is being exchanged: three descriptors of watchfiles, one of triosmtp
    assert grown[2] <= 2
    assert alive == 0


@pytest.mark.parametrize("way", ["cancelled", "closed"])
async def test_the_watch_does_not_hold_up_the_end(tmp_path: Path, way: str) -> None:
    seconds = []
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with open_house(folder, [Certbot(folder / "tls")]) as house:
            began = trio.current_time()
            if way == "closed":
                await house.server.aclose()
        seconds.append(trio.current_time() - began)
    assert not [thread for thread in threading.enumerate() if "watch" in thread.name]
    assert min(seconds) < 1.0  # without a word from us, the watch looks up every five seconds
    print(f"an idle server that is {way} ends within {max(seconds) * 1000:.0f} ms, {min(seconds) * 1000:.0f} at best")
