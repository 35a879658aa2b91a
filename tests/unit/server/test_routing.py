"""Which targets a recipient's mail goes to."""

import pytest

from triosmtp.config import parse_config
from triosmtp.delivery import Delivery, Discard, TargetHealth
from triosmtp.server.routing import Routing, Target
from triosmtp.smtp import parse_path


class Verifying(Discard):
    verifies = True


def target(name: str, delivery: Delivery | None = None, *, verify: bool = True) -> Target:
    return Target(name, delivery or Discard(), TargetHealth(name), verify)


def routing(domains: str = "", default: tuple[Target, ...] | None = None, **by_name: Target) -> Routing:
    config = parse_config(f'{domains} ESMTP_Listener {{ Listen ":25" {{ }} }}')
    made = {"discard:": target("discard:"), "maildir:/a": target("maildir:/a")}
    return Routing.from_settings(
        default or (target("default"),),
        config.domains,
        lambda settings: tuple(made[name] for name in settings.deliver_to),
        by_name,
    )


DOMAINS = """
    Domain "a.example" { Deliver_To = "discard:" }
    Domain "*.a.example" { Deliver_To = "maildir:/a" Verify_Recipients = false }
    Domain "*.b.a.example" { Deliver_To = ( "discard:" "maildir:/a" ) }
    Domain "exact.a.example" { Verify_Recipients = true }
    Domain "bücher.example" { Deliver_To = "discard:" }
"""


@pytest.mark.parametrize(
    ("recipient", "names"),
    [
        ("u@a.example", ["discard:"]),
        ("u@A.EXAMPLE", ["discard:"]),
        ("u@x.a.example", ["maildir:/a"]),
        ("u@y.x.a.example", ["maildir:/a"]),
        ("u@b.a.example", ["maildir:/a"]),
        ("u@x.b.a.example", ["discard:", "maildir:/a"]),
        ("u@exact.a.example", ["maildir:/a"]),  # its own scope says nothing about the target
        ("u@example", ["default"]),
        ("u@xa.example", ["default"]),
        ("u@xn--bcher-kva.example", ["discard:"]),
        ("u@[192.0.2.1]", ["default"]),
        ("postmaster", ["default"]),
        ("u@" + "x." * 120 + "a.example", ["maildir:/a"]),
    ],
)
def test_the_exact_domain_comes_before_the_longest_parent(recipient: str, names: list[str]) -> None:
    address = parse_path(f"<{recipient}>".encode(), utf8=True, forward=True)
    found = routing(DOMAINS).find(address, None)
    assert found is not None
    assert [each.name for each in found] == names


def test_what_policy_chose_comes_first_and_must_exist() -> None:
    address = parse_path(b"<u@a.example>", utf8=True, forward=True)
    quarantine = target("quarantine")
    table = routing(DOMAINS, quarantine=quarantine)
    assert table.find(address, "quarantine") == (quarantine,)
    for unknown in ("other", "", "discard:", "maildir:/a", "Quarantine"):
        assert table.find(address, unknown) is None


@pytest.mark.parametrize(
    ("domain", "verify", "asked"),
    [
        ("x.a.example", True, False),
        ("exact.a.example", False, True),
        ("other.example", True, True),
        ("other.example", False, False),
    ],
)
def test_a_domain_says_whether_recipients_are_verified(domain: str, verify: bool, asked: bool) -> None:
    address = parse_path(f"<u@{domain}>".encode(), utf8=True, forward=True)
    assert routing(DOMAINS).verifies(target("hop", Verifying(), verify=verify), address) is asked
    assert not routing(DOMAINS).verifies(target("maildir", verify=verify), address)


def test_a_single_target_that_asks_nothing_needs_no_routing() -> None:
    assert routing().is_plain
    assert not routing(DOMAINS).is_plain
    assert not routing("", (target("a"), target("b"))).is_plain
    assert not routing("", (target("hop", Verifying()),)).is_plain
    assert not routing("", None, quarantine=target("quarantine")).is_plain
    assert [each.name for each in routing(DOMAINS, q=target("q")).reachable] == [
        "default", "discard:", "maildir:/a", "q",
    ]  # fmt: skip
