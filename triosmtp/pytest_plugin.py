"""The pytest plugin of triosmtp: a real SMTP server as a fixture, for tests that need not know Trio.

pytest imports this module at each of its starts, in every project.  So it imports nothing else of triosmtp until a test
requests a fixture.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from triosmtp.testing import Controller

__all__ = ["smtp_server", "smtp_server_options", "smtp_server_tls", "smtp_server_users"]


@pytest.fixture
def smtp_server_options() -> str:
    """Return options for the server's Listen, such as ``'Max_Message_Size = 1000'``.  Override it for others."""
    return ""


@pytest.fixture
def smtp_server_users() -> Mapping[str, str]:
    """Return users for AUTH and their passwords.  Override it for others."""
    return {"user": "password"}


@pytest.fixture
def smtp_server(smtp_server_options: str, smtp_server_users: Mapping[str, str]) -> "Iterator[Controller]":
    """Serve SMTP without TLS on a free port of 127.0.0.1: ``port``, ``messages``, ``events``, ``users``."""
    from triosmtp.testing import Controller  # noqa: PLC0415 - see above

    with Controller(smtp_server_options, users=smtp_server_users) as controller:
        yield controller


@pytest.fixture
def smtp_server_tls(smtp_server_options: str, smtp_server_users: Mapping[str, str]) -> "Iterator[Controller]":
    """Serve SMTP with STARTTLS in the same way, with ``authority`` and ``client_context()``."""
    from triosmtp.testing import Controller  # noqa: PLC0415 - see above

    with Controller(smtp_server_options, tls=True, users=smtp_server_users) as controller:
        yield controller
