"""The pages of the status listener and their headers."""

from status_server import get, serving


async def test_health_and_readiness() -> None:
    async with serving() as here:
        for path in ("/healthz", "/readyz"):
            response = await get(here.port, path)
            assert (response.status, response.body) == (200, "ok\n")
        assert (await get(here.port, "/nothing")).status == 404


async def test_every_answer_forbids_what_browsers_need_not_do() -> None:
    async with serving() as here:
        for response in (
            await get(here.port, "/healthz"),
            await get(here.port, "/x"),
            await get(here.port, "/", "evil"),
        ):
            assert response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["x-frame-options"] == "DENY"
            assert response.headers["cross-origin-resource-policy"] == "same-origin"
            assert response.headers["cache-control"] == "no-store"
            assert response.headers["referrer-policy"] == "no-referrer"
            assert "server" not in response.headers
