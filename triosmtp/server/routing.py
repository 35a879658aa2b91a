"""Which targets a recipient's mail goes to: by policy, by the Domain scopes, or by the Deliver_To of the connection."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, TypeAlias

from attrs import frozen

from triosmtp.config import DomainScope, Settings
from triosmtp.delivery import Delivery, TargetHealth
from triosmtp.domain import DomainTable
from triosmtp.smtp import Address

__all__ = ["Routing", "Target", "Targets"]


@frozen(slots=True, eq=False)
class Target:
    """A target: its delivery, and the name that it is remembered and shown by."""

    name: str
    """The name of the Delivery, or the address of a short form."""
    delivery: Delivery
    health: TargetHealth
    verify: bool
    """Whether it is asked about recipients at RCPT, if no Domain scope says otherwise."""

    def __str__(self) -> str:
        return self.name


Targets: TypeAlias = tuple[Target, ...]
"""The targets that each get a copy, in this order."""


@frozen(slots=False, eq=False)
class Routing:
    """The targets of one profile."""

    default: Targets
    by_domain: DomainTable[Targets]
    verify_by_domain: DomainTable[bool]
    by_name: Mapping[str, Target]
    """The Delivery scopes that policy can choose."""

    @classmethod
    def from_settings(
        cls,
        default: Targets,
        domains: Iterable[DomainScope],
        make: Callable[[Settings], Targets],
        by_name: Mapping[str, Target],
    ) -> "Routing":
        """Return the targets for connections whose Deliver_To is ``default``; ``make`` returns those of Domains."""
        scopes = tuple(domains)

        def table(field: str, value: Callable[[Settings], Any]) -> DomainTable[Any]:
            return DomainTable({each.key: value(each.settings) for each in scopes if field in each.fields})

        return cls(
            default=default,
            by_domain=table("deliver_to", make),
            verify_by_domain=table("verify_recipients", lambda found: found.verify_recipients),
            by_name=by_name,
        )

    def find(self, recipient: Address, chosen: str | None) -> Targets | None:
        """Return the targets for a recipient; ``chosen`` is what policy chose.  None: there is no such Delivery."""
        if chosen is not None:
            target = self.by_name.get(chosen)
            return None if target is None else (target,)
        return self.by_domain.find(recipient.domain_key) or self.default

    def verifies(self, target: Target, recipient: Address) -> bool:
        """Return whether ``target`` is asked about a recipient at RCPT."""
        if not target.delivery.verifies:
            return False
        found = self.verify_by_domain.find(recipient.domain_key)
        return target.verify if found is None else found

    @cached_property
    def reachable(self) -> Targets:
        """Every target that mail may go to."""
        found = dict.fromkeys(self.default)
        for targets in self.by_domain.values():
            found |= dict.fromkeys(targets)
        return tuple(found | dict.fromkeys(self.by_name.values()))

    @cached_property
    def is_plain(self) -> bool:
        """Whether all mail goes to one target, which needs neither recipients in advance nor the client."""
        delivery = self.default[0].delivery
        return not (self.may_mix or delivery.verifies or delivery.wants_origin)

    @cached_property
    def may_mix(self) -> bool:
        """Whether recipients of one message may have different results: several targets, or one that splits."""
        return len(self.reachable) > 1 or self.default[0].delivery.splits
