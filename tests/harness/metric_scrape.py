"""Read the metrics of a server."""

import trio
from prometheus_client.parser import text_string_to_metric_families
from status_server import NoSource, Serving, get

from triosmtp.status.metrics import Metrics


async def scrape(here: Serving) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return every sample of a scrape, by name and labels."""
    response = await get(here.port, "/metrics")
    assert response.status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.body)
        for sample in family.samples
    }


async def until(here: Serving, name: str, value: float, **labels: str) -> None:
    """Scrape until a sample has a value: the server notices the end of a session after its peer."""
    key = name, tuple(sorted(labels.items()))
    with trio.fail_after(20):
        while (found := (await scrape(here)).get(key)) != value:
            assert found is None or found < value, f"{key} is {found}"


async def series(metrics: Metrics) -> dict[str, set[tuple[str, ...]]]:
    """Return every combination of labels, by the family's name."""
    return {each.family.name: set(each.values) for each in await metrics.scrape(NoSource())}
