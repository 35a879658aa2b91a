"""A profile: what one resolved set of options means in running parts, made once for all sessions it holds for."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from triosmtp.config import Config, Settings, problem_at
from triosmtp.delivery import Delivery, parse_delivery
from triosmtp.errors import ConfigError, Problem
from triosmtp.policy import Chain, Policy, load_policy
from triosmtp.server.relay import RelayRules
from triosmtp.smtp import Reply, Rules
from triosmtp.state import state_directory
from triosmtp.tls import MaterialError, MaterialWarning, TLSSettings

__all__ = ["Profile", "Profiles", "default_maildir", "material_problem", "tls_settings"]

_T = TypeVar("_T")


@frozen(slots=True, eq=False)
class Profile:
    """The running parts of one :class:`~triosmtp.config.Settings`."""

    settings: Settings
    rules: Rules
    banner: Reply
    hostname: str
    """What we call ourselves in Received."""
    chain: Chain
    relay: RelayRules
    delivery: Delivery
    tls: TLSSettings | None
    """The key of the TLS context in the store; None where there is no certificate."""


def material_problem(settings: Settings, found: MaterialError | MaterialWarning, severity: str = "error") -> Problem:
    """Give what was found about certificate material the place of the option that names it."""
    subject = "" if found.path is None else f'"{found.path}": '
    return problem_at(settings, (found.option or "TLS_Certificate").lower(), f"{subject}{found.reason}", severity)


def tls_settings(settings: Settings) -> TLSSettings | None:
    """Give what a TLS context is made of, or None where no certificate is in force."""
    if settings.tls_certificate is None:
        return None
    return TLSSettings(
        certificate=settings.tls_certificate,
        key=settings.tls_key,
        client_ca=settings.tls_client_ca,
        ciphers=settings.tls_ciphers,
        verify_mode=settings.tls_verify_mode or "optional",
    )


class Profiles:
    """Makes profiles and keeps them; policies and deliveries that are named alike are made once.

    ``policies`` and ``delivery``, where the embedding program gives them, stand in place of the options Policy and
    Deliver_To.
    """

    def __init__(
        self,
        config: Config,
        hostname: str,
        *,
        policies: Iterable[Policy] | None = None,
        delivery: Delivery | None = None,
    ) -> None:
        self._config = config
        self._hostname = hostname
        self._given_chain = None if policies is None else Chain(policies)
        self._given_delivery = delivery
        self._policies: dict[str, Policy] = {}
        self._deliveries: dict[str, Delivery] = {}
        self._chains: dict[tuple[str, ...], Chain] = {}
        self._profiles: dict[int, Profile] = {}

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """Every delivery that the options named."""
        return tuple(self._deliveries.values())

    def prepare(self) -> list[Profile]:
        """Make the profile of every Listen and of each of its Peer blocks.

        :raises ConfigError: naming each policy and each delivery that cannot be had.
        """
        problems: list[Problem] = []
        profiles = []
        for listen in self._config.listens:
            for settings in self._config.variants(listen):
                try:
                    profiles.append(self.of(settings))
                except ConfigError as error:
                    problems += [problem for problem in error.problems if problem not in problems]
        if problems:
            raise ConfigError(problems)
        return profiles

    def of(self, settings: Settings) -> Profile:
        """Give the profile of ``settings``.

        :raises ConfigError: where a policy or the delivery that it names cannot be had.
        """
        profile = self._profiles.get(id(settings))
        if profile is None:
            profile = self._profiles[id(settings)] = self._make(settings)
        return profile

    def _make(self, settings: Settings) -> Profile:
        hostname = settings.banner_hostname or self._hostname
        tls = tls_settings(settings)
        return Profile(
            settings=settings,
            rules=_rules(settings, hostname, starttls=tls is not None and not settings.use_ssl),
            banner=_banner(settings, hostname),
            hostname=settings.received_hostname or hostname,
            chain=self._chain(settings),
            relay=RelayRules.of(settings),
            delivery=self._delivery(settings),
            tls=tls,
        )

    def _chain(self, settings: Settings) -> Chain:
        if self._given_chain is not None:
            return self._given_chain
        chain = self._chains.get(settings.policy)
        if chain is None:
            for specification in settings.policy:
                if specification not in self._policies:
                    self._policies[specification] = _found(
                        settings, "policy", partial(load_policy, specification, self._config.folder)
                    )
            chain = self._chains[settings.policy] = Chain(self._policies[spec] for spec in settings.policy)
        return chain

    def _delivery(self, settings: Settings) -> Delivery:
        if self._given_delivery is not None:
            return self._given_delivery
        specification = settings.deliver_to or f"maildir:{default_maildir()}"
        delivery = self._deliveries.get(specification)
        if delivery is None:
            delivery = _found(settings, "deliver_to", partial(parse_delivery, specification))
            self._deliveries[specification] = delivery
        return delivery


def default_maildir() -> Path:
    """Give the Maildir that mail goes to without Deliver_To: in the state folder."""
    return state_directory() / "Maildir"


def _found(settings: Settings, field: str, make: Callable[[], _T]) -> _T:
    try:
        return make()
    except ValueError as error:
        raise ConfigError([problem_at(settings, field, str(error))]) from error


def _rules(settings: Settings, hostname: str, *, starttls: bool) -> Rules:
    extensions = {name.upper() for name in settings.smtp_extensions}
    return Rules(
        hostname=hostname,
        starttls=starttls and "STARTTLS" in extensions,
        enhanced_status_codes="ENHANCEDSTATUSCODES" in extensions,
        max_message_size=settings.max_message_size,
        require_hello=settings.require_ehlo,
        allow_null_sender=settings.allow_null_envelope_sender,
        allow_ip_literal=settings.allow_ip_literal,
        allow_trailing_whitespace=settings.allow_trailing_whitespace_in_commands,
        sender_domain=settings.domain_for_unqualified_sender_address,
        recipient_domain=settings.domain_for_unqualified_recipient_addresses,
        starttls_injection=settings.starttls_injection_policy,
        lone_lf_in_headers=settings.rfc2822_lone_lf_in_headers,
        lone_lf_in_body=settings.rfc2822_lone_lf_in_body,
        max_command_errors=settings.max_command_errors,
    )


def _banner(settings: Settings, hostname: str) -> Reply:
    if not settings.static_banner:
        return Reply(220, f"{hostname} ESMTP")
    return Reply(220, settings.static_banner.removeprefix("220 "))  # it holds its own code
