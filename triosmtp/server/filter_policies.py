"""Makes the policies that ask filters: those of Policy that need a connection.  Imported only if there are any."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from attrs import evolve, frozen

from triosmtp.config import Config, Settings, parse_filter_address
from triosmtp.errors import UnknownNameError
from triosmtp.filters.envelope_changes import EnvelopeChanges
from triosmtp.filters.milter_changes import ContentRules, EnvelopeRules
from triosmtp.filters.milter_policy import MilterPolicy, MilterSettings
from triosmtp.filters.policyd_client import PolicydClient
from triosmtp.filters.policyd_policy import PolicydSettings, make_policyd_policy
from triosmtp.policy import PHASES, Phase, Policy, Session
from triosmtp.policy_service.filter_registry import FilterFigures, FilterKey, FilterRegistry
from triosmtp.policy_service.question import Fallback
from triosmtp.recipients.known_recipients import KnownRecipients
from triosmtp.recipients.recipient_file import RecipientFileError
from triosmtp.server.relay_rules import RelayRules
from triosmtp.smtp import Address

__all__ = ["make_envelope_changes", "make_filter_policy", "make_recipient_judge"]

_DEFAULT_PHASES: Final[tuple[Phase, ...]] = ("rcptto",)
_MILTER_PHASES: Final[tuple[Phase, ...]] = ("connect", "ehlo", "mailfrom", "rcptto", "data", "data_spool")
_RSPAMD_PHASES: Final[tuple[Phase, ...]] = ("data_spool",)
_MAX_BODY: Final = 1 << 30  # octets of a new body if Max_Message_Size sets no limit


def make_filter_policy(
    config: Config,
    settings: Settings,
    name: str,
    filters: FilterRegistry,
    recipients: KnownRecipients | None,
    hostname: str,
) -> tuple[Policy, FilterKey]:
    """Return the policy for ``name`` in the Policy of ``settings``, and the key that is to be released at the end.

    An option that the Filter scope does not set has the value of ``settings``.
    """
    scope = config.filters.get(name.partition(":")[2]) if name.startswith("filter:") else None
    if scope is None and name.startswith("filter:"):
        raise UnknownNameError(f"there is no {name}")
    timeout, fallback = settings.policy_timeout, settings.policy_fallback
    by_phase: Mapping[str, Fallback] = settings.policy_fallback_phases
    address, phases, hold_to = name, _DEFAULT_PHASES, None
    if scope is not None:
        address, hold_to = scope.connect_to, scope.hold_to
        phases = tuple(phase for phase in PHASES if phase in scope.phases)
        timeout = timeout if scope.timeout is None else scope.timeout
        if scope.fallback is not None:
            fallback, by_phase = scope.fallback, {}
        by_phase = {**by_phase, **scope.fallback_phases}
    if address.startswith("rspamd:"):
        phases = _RSPAMD_PHASES
    is_milter = address.startswith("milter:")
    key = FilterKey(name, address, _MILTER_PHASES if is_milter else phases)
    filters.add(key, PolicydClient if address.startswith("policyd:") else FilterFigures)
    fallbacks: dict[Phase, Fallback] = {phase: by_phase.get(phase, fallback) for phase in key.phases}
    judge = _Judge(RelayRules.from_settings(settings), recipients, settings.max_recipients_per_message)
    if is_milter:
        milter = _milter_settings(settings, key, timeout, fallbacks, judge, hostname)
        return MilterPolicy(evolve(milter, hold_to=hold_to), filters), key
    if address.startswith("rspamd:"):
        from triosmtp.server.rspamd_filter import make_rspamd_policy  # noqa: PLC0415 - it imports httpx

        rspamd = make_rspamd_policy(
            settings,
            scope,
            key,
            filters,
            timeout=timeout,
            fallback=fallbacks["data_spool"],
            hostname=hostname,
            envelope=_envelope_rules(settings, judge),
            content=_content_rules(settings),
        )
        return rspamd, key
    policyd = PolicydSettings(key=key, timeout=timeout, fallbacks=fallbacks, hold_to=hold_to)
    return make_policyd_policy(policyd, filters, judge.judge_address), key


def _milter_settings(
    settings: Settings,
    key: FilterKey,
    timeout: float,
    fallbacks: Mapping[Phase, Fallback],
    judge: "_Judge",
    hostname: str,
) -> MilterSettings:
    return MilterSettings(
        key=key,
        address=parse_filter_address(key.address),
        timeout=timeout,
        fallbacks=fallbacks,
        hostname=hostname,
        envelope=_envelope_rules(settings, judge),
        content=_content_rules(settings),
    )


def _envelope_rules(settings: Settings, judge: "_Judge") -> EnvelopeRules:
    return EnvelopeRules(
        judge_recipient=judge.judge_recipient,
        judge_sender=judge.judge_sender,
        refusal_of=judge.refusal_of,
        is_local=judge.relay.is_local,
        max_recipients=settings.max_recipients_per_message or 1 << 31,
    )


def _content_rules(settings: Settings) -> ContentRules:
    return ContentRules(
        spool_directory=settings.spool_directory,
        spool_min_free=settings.spool_min_free,
        max_body=settings.max_message_size or _MAX_BODY,
    )


def make_envelope_changes(settings: Settings, recipients: KnownRecipients | None) -> Policy:
    """Return the policy that applies what filters changed in the envelope."""
    return EnvelopeChanges(_Judge(RelayRules.from_settings(settings), recipients, 0).judge_address)


def make_recipient_judge(
    settings: Settings, recipients: KnownRecipients | None
) -> Callable[[Session, Address], Awaitable[str]]:
    """Return what tells why a message of a session may not have a recipient; ``""`` if it may."""
    return _Judge(RelayRules.from_settings(settings), recipients, 0).judge_recipient


@frozen(slots=True)
class _Judge:
    """Applies the rules for senders and recipients to those that filters bring."""

    relay: RelayRules
    recipients: KnownRecipients | None
    max_recipients: int

    async def judge_address(self, address: Address) -> str:
        """Return why no message may have this recipient."""
        if not self.relay.is_local(address):
            return "its domain is not in Relay_Domains"
        try:
            known = self.recipients is None or await self.recipients.contains(address)
        except RecipientFileError as error:
            return str(error)
        return "" if known else "it is not in Known_Recipients"

    async def judge_recipient(self, session: Session, address: Address) -> str:
        """Return why a message of this session may not have this recipient: the client's rights are the limit."""
        if session.tls is None and self.relay.demands_tls(address):
            return f"{address.domain} accepts mail over TLS alone"
        may_relay = self._may_relay(session)
        if self.relay.is_barred_route(address, address.text) and not may_relay:
            return "it names a route"
        if not self.relay.is_local(address) and may_relay:
            return ""
        return await self.judge_address(address)

    def judge_sender(self, session: Session, sender: Address) -> str:
        """Return why a message of this session may not have this sender."""
        rules = self.relay.senders
        option, verified = ("", False) if rules is None else rules.demand(sender)
        if rules is None or not option:
            return ""
        if session.tls is None or (verified and not rules.accepts(session.tls)):
            return f"{option} demands what the client did not prove"
        return ""

    async def refusal_of(self, session: Session, recipient: Address) -> str:
        """Return why RCPT will be refused, as the restrictions of the phase will: ``""`` if it will not."""
        envelope = session.envelope
        if envelope is not None and 0 < self.max_recipients <= len(envelope.recipients):
            return "4.5.3 Too many recipients"
        if not self.relay.is_local(recipient):
            return "" if self._may_relay(session) else "5.7.1 relaying denied"
        try:
            known = self.recipients is None or await self.recipients.contains(recipient)
        except RecipientFileError:
            return "4.3.0 The recipient cannot be looked up, try again later"
        return "" if known else "5.1.1 The recipient is not known here"

    def _may_relay(self, session: Session) -> bool:
        relay, envelope = self.relay, session.envelope
        return (
            session.variables.get("can_relay") == "true"
            or relay.trusts_host(session.peer_address)
            or relay.trusts_certificate(session.tls)
            or session.auth is not None
            or (envelope is not None and relay.trusts_sender(envelope.sender))
        )
