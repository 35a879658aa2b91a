"""The store of contexts: swaps, and sessions that keep the old one."""

from reload_site import ReloadSite, issued

from triosmtp.event import CertificateReloadFailed, CertificatesReloaded


async def test_what_one_lacks_stands_in_no_other_s_way(site: ReloadSite) -> None:
    sick, well = site.install("sick"), site.install("well")
    await site.reload("start")
    site.told()
    before = site.fingerprint(sick), site.fingerprint(well)
    sick.certificates[0].certificate.unlink()
    issued().write(site.folder, "well")
    outcome = await site.reload()
    assert (outcome.renewed, set(outcome.problems)) == ((well,), {sick})
    assert site.fingerprint(sick) == before[0]
    assert site.fingerprint(well) != before[1]
    assert {type(event) for event in site.told()} == {CertificatesReloaded, CertificateReloadFailed}


async def test_settings_that_nobody_has_leave_the_store(site: ReloadSite) -> None:
    gone, kept = site.install("gone"), site.install("kept")
    await site.reload("start")
    adopted = site.store.adopted
    site.wanted.remove(gone)
    await site.reload()
    assert [context.material.settings for context in site.store.contexts()] == [kept]
    assert adopted.is_set()


async def test_a_context_counts_its_sessions_and_outlives_a_swap_only_while_it_has_any(site: ReloadSite) -> None:
    settings = site.install()
    await site.reload("start")
    context = site.store.get(settings)
    assert context.sessions == 0
    engine = context.new_engine()
    other = context.new_engine()
    assert context.sessions == 2
    other.release()
    assert context.sessions == 1
    issued().write(site.folder, "mx")
    await site.reload()
    assert context.sessions == 1
    del engine
    assert context.sessions == 0
