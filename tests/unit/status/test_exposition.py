"""The text of a scrape, in both formats."""

import re

import pytest
from status_server import get, serving

from triosmtp.status.metric_family import FAMILIES


@pytest.mark.parametrize("accept", ["", "text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"])
async def test_both_formats_are_given(accept: str) -> None:
    async with serving() as here:
        response = await get(here.port, "/metrics", "localhost", *([f"Accept: {accept}"] if accept else []))
        openmetrics = "openmetrics" in accept
        assert response.headers["content-type"].startswith(
            "application/openmetrics-text" if openmetrics else "text/plain"
        )
        assert response.body.endswith("# EOF\n") is openmetrics
        assert "# TYPE triosmtp_messages" in response.body


async def test_every_family_of_the_table_is_in_a_scrape_and_no_other() -> None:
    async with serving() as here:
        body = (await get(here.port, "/metrics")).body
    told = dict(re.findall(r"^# TYPE (\S+) (\S+)$", body, re.MULTILINE))
    assert {name: kind for name, kind in told.items() if not name.startswith("process_")} == {
        family.name: family.kind for family in FAMILIES.values()
    }
