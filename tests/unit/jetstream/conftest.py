"""One server of NATS for each module."""

from collections.abc import Iterator

import pytest
from nats_servers import OBJECT_BUCKET, STREAM, JetStream, NATSProcess, run_nats


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NATSProcess]:
    with run_nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def jetstream(nats_server: NATSProcess) -> JetStream:
    """Return a server whose stream and bucket are as they must be, and empty."""
    jetstream = JetStream(nats_server)
    jetstream.make(STREAM)
    jetstream.make(OBJECT_BUCKET)
    return jetstream
