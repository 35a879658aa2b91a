"""Random and mutated configurations: the only exception is ConfigError, and the result is always the same.

The full count of `nox -s judge` is 10,000; by default a tenth of it runs.
"""

import os
import string
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest

from triosmtp.config import Config, parse_config, show
from triosmtp.errors import ConfigError, Severity

FULL = 10_000
SHARE = 1 if os.environ.get("TRIOSMTP_JUDGE") else 10
COUNT = FULL // SHARE
SEEDS = 10

REAL = Path(__file__).with_name("ecelerity.conf").read_text()
PIECES = [
    *["ESMTP_Listener", "Listen", "Peer", "Pathway", "Pathway_Group", "include", "Binding", "Idle_Time", "Policy"],
    *["TLS_Certificate", "TLS_Verify_Mode", "SMTP_Extensions", "Context", "Relay_Hosts", "Use_SSL", "Deliver_To"],
    *['":25"', '"10.0.0.0/8"', '"::1"', "none", "true", "300", "require", "STARTTLS", "( a b )", "[ a = b ]", "/etc"],
    *["Server_Name", '"*.example.org"', "TLS_Key", "TLS_Protocols", "TLS_Relay_Clients", "+ALL:-SSLv3", "dns:*.a.b"],
    *["=", "{", "}", "(", ")", "[", "]", ",", '"', "'", "\\", "#", "/*", "*/", "\n", "\r\n", "\t", "\x00", "\xa0", "é"],
]


def outcome(text: str) -> str:
    """Return the warnings and settings of ``text``, or the text of the ConfigError; let other exceptions propagate."""
    try:
        config = parse_config(text, folder=Path("/nonexistent"))
    except ConfigError as caught:
        error = caught
    else:
        return "\n".join([*map(str, config.warnings), *written(config)])
    assert any(problem.severity is Severity.ERROR for problem in error.problems)
    places = [problem.position for problem in error.problems if problem.position is not None]
    assert all(place.line > 0 and place.column > 0 for place in places)
    return str(error)


def written(config: Config) -> list[str]:
    return list(show(config.root, recurse=True))


def mutated(random: Random) -> str:
    text = list(REAL) if random.random() < 0.7 else list("\n".join(random.choices(REAL.splitlines(), k=30)))
    for _ in range(random.randint(1, 12)):
        at = random.randrange(len(text))
        kind = random.random()
        if kind < 0.3:
            del text[at : at + random.randint(1, 20)]
        elif kind < 0.6:
            text.insert(at, random.choice(PIECES))
        elif kind < 0.8:
            text[at] = random.choice(string.printable)
        else:
            other = random.randrange(len(text))
            text[at:at] = text[other : other + random.randint(1, 80)]
    return "".join(text)


def random_text(random: Random) -> str:
    return " ".join(random.choices(PIECES, k=random.randint(1, 60)))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_only_exception_is_a_configuration_error(seed: int) -> None:
    print(f"{COUNT} of {FULL} configurations in all (a {SHARE}th)")
    random = Random(seed)
    for _ in range(COUNT // SEEDS):
        text = random_text(random) if random.random() < 0.4 else mutated(random)
        first = outcome(text)
        assert outcome(text) == first


@pytest.mark.parametrize("seed", range(4))
def test_every_prefix_of_a_real_configuration(seed: int) -> None:
    step = 1 if SHARE == 1 else 40
    for end in range(seed * step // 4, len(REAL), step):
        outcome(REAL[:end])


def test_the_shown_text_reads_as_the_same_configuration() -> None:
    config = parse_config(REAL)
    again = parse_config("\n".join(written(config)))
    assert [listen.name for listen in again.listens] == [listen.name for listen in config.listens]
    for listen, other in zip(config.listens, again.listens, strict=True):
        for peer in (None, "10.1.2.3", "10.2.3.4", "192.168.1.1", "fd82::1"):
            address = None if peer is None else ip_address(peer)
            assert again.resolve(other, address) == config.resolve(listen, address)
