"""What is measured: each test, its load, and the figures that triosmtp holds itself to."""

from typing import Literal

from attrs import frozen

__all__ = ["SCENARIOS", "Scenario", "Security"]

Security = Literal["plain", "starttls", "client-certificate"]

KIB = 1024
MIB = 1024 * KIB


@frozen(slots=True, kw_only=True)
class Scenario:
    """One test.  ``must`` and ``aim`` are ratios to aiosmtpd on uvloop in the same run; times differ between machines.

    With a ``message_size`` of 0 there is no message, and the unit is the connection.
    """

    name: str
    title: str
    unit: Literal["ms", "s/GB"]
    clients: int
    message_size: int
    security: Security
    persistent: bool
    must: float | None = None
    aim: float | None = None
    pipelined: bool = False
    """Whether MAIL, RCPT and DATA go in one write (RFC 2920)."""

    def figure(self, cpu_seconds: float, messages: int) -> float:
        """Return CPU seconds for so many messages in this test's unit."""
        if self.unit == "ms":
            return cpu_seconds * 1000 / messages
        return cpu_seconds / (messages * self.message_size / 1e9)


_ALL = (
    Scenario(
        name="A", title="one 2 KB message a connection, plaintext", unit="ms", clients=10, message_size=2 * KIB,
        security="plain", persistent=False, must=0.65, aim=0.50,
    ),
    Scenario(
        name="B", title="2 KB messages on persistent connections, plaintext", unit="ms", clients=10,
        message_size=2 * KIB, security="plain", persistent=True, must=0.60, aim=0.50,
    ),
    Scenario(
        name="Bp", title="the same, pipelined", unit="ms", clients=10, message_size=2 * KIB, security="plain",
        persistent=True, pipelined=True, must=0.50, aim=0.40,
    ),
    Scenario(
        name="C", title="10 MB messages, plaintext", unit="s/GB", clients=2, message_size=10 * MIB, security="plain",
        persistent=True, must=0.12, aim=0.10,
    ),
    Scenario(
        name="Ct", title="10 MB messages, TLS 1.3", unit="s/GB", clients=2, message_size=10 * MIB, security="starttls",
        persistent=True,
    ),
    Scenario(
        name="De", title="STARTTLS handshake (TLS 1.3, P-256), one message, QUIT", unit="ms", clients=10,
        message_size=2 * KIB, security="starttls", persistent=False, must=0.80, aim=0.70,
    ),
    Scenario(
        name="Ee", title="the same with a verified client certificate (P-256)", unit="ms", clients=10,
        message_size=2 * KIB, security="client-certificate", persistent=False, must=0.70, aim=0.62,
    ),
    Scenario(
        name="He", title="STARTTLS handshake (TLS 1.3, P-256) without a message, QUIT", unit="ms", clients=10,
        message_size=0, security="starttls", persistent=False,
    ),
    Scenario(
        name="Hv", title="the same with a verified client certificate (P-256)", unit="ms", clients=10,
        message_size=0, security="client-certificate", persistent=False,
    ),
)  # fmt: skip

SCENARIOS = {scenario.name: scenario for scenario in _ALL}
