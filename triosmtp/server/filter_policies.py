"""Makes the policies that ask filters, of ``policyd:`` and ``filter:`` in Policy.  Imported only if there are any."""

from collections.abc import Mapping
from typing import Final

from triosmtp.config import Config, Settings
from triosmtp.filters.envelope_changes import EnvelopeChanges, Judge
from triosmtp.filters.policyd_client import PolicydClient
from triosmtp.filters.policyd_policy import PolicydSettings, make_policyd_policy
from triosmtp.policy import PHASES, Phase, Policy
from triosmtp.policy_service.filter_registry import FilterKey, FilterRegistry
from triosmtp.policy_service.question import Fallback
from triosmtp.recipients.known_recipients import KnownRecipients
from triosmtp.recipients.recipient_file import RecipientFileError
from triosmtp.server.relay_rules import RelayRules
from triosmtp.smtp import Address

__all__ = ["make_envelope_changes", "make_filter_policy"]

_DEFAULT_PHASES: Final[tuple[Phase, ...]] = ("rcptto",)


def make_filter_policy(
    config: Config,
    settings: Settings,
    name: str,
    filters: FilterRegistry,
    recipients: KnownRecipients | None,
) -> tuple[Policy, FilterKey]:
    """Return the policy for ``name`` in the Policy of ``settings``, and the key that is to be released at the end.

    An option that the Filter scope does not set has the value of ``settings``.
    """
    scope = config.filters[name.partition(":")[2]] if name.startswith("filter:") else None
    timeout, fallback = settings.policy_timeout, settings.policy_fallback
    by_phase: Mapping[str, Fallback] = settings.policy_fallback_phases
    address, phases = name, _DEFAULT_PHASES
    if scope is not None:
        address = scope.connect_to
        phases = tuple(phase for phase in PHASES if phase in scope.phases)
        timeout = timeout if scope.timeout is None else scope.timeout
        if scope.fallback is not None:
            fallback, by_phase = scope.fallback, {}
        by_phase = {**by_phase, **scope.fallback_phases}
    key = FilterKey(name, address, phases)
    filters.add(key, PolicydClient)
    fallbacks: dict[Phase, Fallback] = {phase: by_phase.get(phase, fallback) for phase in phases}
    policyd = PolicydSettings(key=key, timeout=timeout, fallbacks=fallbacks)
    return make_policyd_policy(policyd, filters, _judge_of(settings, recipients)), key


def make_envelope_changes(settings: Settings, recipients: KnownRecipients | None) -> Policy:
    """Return the policy that applies what filters changed in the envelope."""
    return EnvelopeChanges(_judge_of(settings, recipients))


def _judge_of(settings: Settings, recipients: KnownRecipients | None) -> Judge:
    relay = RelayRules.from_settings(settings)

    async def judge(address: Address) -> str:
        if not relay.is_local(address):
            return "its domain is not in Relay_Domains"
        try:
            known = recipients is None or await recipients.contains(address)
        except RecipientFileError as error:
            return str(error)
        return "" if known else "it is not in Known_Recipients"

    return judge
