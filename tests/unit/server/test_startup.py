"""The policies and deliveries that a server can start with."""

import pytest
from memory_dialogue import conf

from triosmtp.testing import RecordingPolicy, open_memory_server


async def test_what_is_no_policy_and_no_delivery_is_an_error_at_once() -> None:
    with pytest.raises(TypeError, match="instances, not <class"):
        await open_memory_server(conf(), policy=RecordingPolicy).__aenter__()  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="not 'discard:'"):
        await open_memory_server(conf(), deliver="discard:").__aenter__()  # type: ignore[arg-type]  # the mistake
