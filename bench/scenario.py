"""What is measured: each test, its load, and the figures that triosmtp holds itself to."""

from typing import Literal

from attrs import frozen

__all__ = ["SCENARIOS", "Scenario", "Security"]

Security = Literal["plain", "starttls", "client-certificate"]

KIB = 1024
MIB = 1024 * KIB


@frozen(slots=True, kw_only=True)
class Scenario:
    """One test.  ``must`` and ``aim``, where there are any, hold for the machine of the table they come from.

    On another machine compare ratios: ``rival`` is what aiosmtpd on uvloop took where the table was made.

    A ``message_size`` of 0 is a connection without a message, and the unit is then the connection; its ``must`` is 1.25
    times what the bare server takes.
    """

    name: str
    title: str
    unit: Literal["ms", "s/GB"]
    clients: int
    message_size: int
    security: Security
    persistent: bool
    rival: float | None = None
    must: float | None = None
    aim: float | None = None
    pipelined: bool = False
    """Whether MAIL, RCPT and DATA go in one write (RFC 2920)."""

    def figure(self, cpu_seconds: float, messages: int) -> float:
        """Give CPU seconds for so many messages in this test's unit."""
        if self.unit == "ms":
            return cpu_seconds * 1000 / messages
        return cpu_seconds / (messages * self.message_size / 1e9)


_ALL = (
    Scenario(
        name="A", title="one 2 KB message a connection, plaintext", unit="ms", clients=10, message_size=2 * KIB,
        security="plain", persistent=False, rival=0.79, must=0.40, aim=0.30,
    ),
    Scenario(
        name="B", title="2 KB messages on persistent connections, plaintext", unit="ms", clients=10,
        message_size=2 * KIB, security="plain", persistent=True, rival=0.40, must=0.20, aim=0.12,
    ),
    Scenario(
        name="Bp", title="the same, pipelined", unit="ms", clients=10, message_size=2 * KIB, security="plain",
        persistent=True, pipelined=True,
    ),
    Scenario(
        name="C", title="10 MB messages, plaintext", unit="s/GB", clients=2, message_size=10 * MIB, security="plain",
        persistent=True, rival=32, must=5, aim=4,
    ),
    Scenario(
        name="De", title="STARTTLS handshake (TLS 1.3, P-256), one message, QUIT", unit="ms", clients=10,
        message_size=2 * KIB, security="starttls", persistent=False, rival=1.99, must=1.30, aim=1.20,
    ),
    Scenario(
        name="Ee", title="the same with a verified client certificate (P-256)", unit="ms", clients=10,
        message_size=2 * KIB, security="client-certificate", persistent=False, rival=3.01, must=1.75, aim=1.62,
    ),
    Scenario(
        name="He", title="STARTTLS handshake (TLS 1.3, P-256) without a message, QUIT", unit="ms", clients=10,
        message_size=0, security="starttls", persistent=False, rival=0.89, must=0.86, aim=0.79,
    ),
    Scenario(
        name="Hv", title="the same with a verified client certificate (P-256)", unit="ms", clients=10,
        message_size=0, security="client-certificate", persistent=False, rival=1.91, must=1.26, aim=1.16,
    ),
)  # fmt: skip

SCENARIOS = {scenario.name: scenario for scenario in _ALL}
