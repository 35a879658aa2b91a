"""What these tests have in common: one real server with a console, for those that do it no harm."""

from collections.abc import Iterator

import pytest
from daemon_server import DaemonServer, daemon


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonServer]:
    listen = 'Listen "127.0.0.1:0" { Peer "10.0.0.0/8" { Idle_Time = 30 } }'
    with daemon(tmp_path_factory.mktemp("console"), listen) as running:
        yield running
