"""A profile: one resolved set of options as running parts, which all of its sessions share."""

import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio
from attrs import evolve, field, frozen

from triosmtp.auth import AuthFileError, IdentityMap, MockKey, PasswordFile
from triosmtp.config import DELIVERY_EXTENSIONS, Config, Listen, ServerName, Settings, problem_at
from triosmtp.delivery import (
    Delivery,
    EventSink,
    TargetHealth,
    is_probed,
)
from triosmtp.errors import ConfigError, Problem, collect
from triosmtp.limits.target_slots import SlotRegistry
from triosmtp.module_loader import ModuleLoader
from triosmtp.policy import PHASES, Chain, Policy, load_policy
from triosmtp.recipients.known_recipients import KnownRecipients
from triosmtp.recipients.recipient_file import RecipientFile, RecipientFileError
from triosmtp.server.relay_rules import RelayRules
from triosmtp.server.routing import Routing, Target
from triosmtp.server.sasl_config import SaslConfig, Store, build_sasl_config, unanswered_schemes
from triosmtp.server.target_set import TargetSet
from triosmtp.server.tls_contexts import tls_settings
from triosmtp.smtp import TRUSTED_EXTENSIONS, ConnectionSettings, Reply
from triosmtp.tls import TLSSettings
from triosmtp.variables import is_reserved

if TYPE_CHECKING:
    from triosmtp.delivery.remembered_recipients import RememberedRecipients
    from triosmtp.policy_service.filter_registry import FilterKey
    from triosmtp.policy_service.hub import Hub
    from triosmtp.server.client_checks import ClientChecks
    from triosmtp.server.scripts import ScriptSet

__all__ = ["Profile", "Profiles"]

_log = logging.getLogger("triosmtp.server")

_T = TypeVar("_T")


@frozen(slots=True, eq=False)
class Profile:
    """The running parts of one :class:`~triosmtp.config.Settings`."""

    settings: Settings
    rules: ConnectionSettings
    banner: Reply
    hostname: str
    """The name of this host in Received."""
    chain: Chain
    relay: RelayRules
    direct: Target | None
    """The only target, if its mail needs no plan: see :attr:`Routing.is_plain`."""
    routing: Routing
    """All targets."""
    health: tuple[TargetHealth, ...]
    """The health of the usual targets, of those that can be unavailable: while they are, new sessions are refused."""
    memory: "RememberedRecipients | None"
    """The recipients that have a message which the client must send again; None if results are never mixed."""
    tls: TLSSettings | None
    """The key of the TLS context in the store; None without a certificate."""
    sasl: SaslConfig
    """The mechanisms of AUTH and their files."""
    server_names: tuple[ServerName, ...]
    """The certificates of the Listen that SNI selects."""
    recipients: KnownRecipients | None
    """The recipients that exist; None if no file is named."""
    extensions_vary: bool
    """Whether a target may honour other extensions later: see :meth:`current`."""
    _variants: "dict[frozenset[str], Profile]" = field(factory=dict, init=False, repr=False)

    def current(self) -> "Profile":
        """Return this profile with the extensions that its targets honour now: those of a next hop may change."""
        if not self.extensions_vary:
            return self
        wanted = _honoured(self.routing).intersection(self.settings.smtp_extensions)
        extensions = self.rules.extensions.difference(DELIVERY_EXTENSIONS) | wanted
        if extensions == self.rules.extensions:
            return self
        if extensions not in self._variants:
            self._variants[extensions] = evolve(self, rules=evolve(self.rules, extensions=extensions))
        return self._variants[extensions]


class Profiles:
    """Makes profiles and keeps them.  Policies and deliveries with the same name are made once.

    ``policies`` and ``delivery`` of an embedding program replace the options Policy and Deliver_To.
    """

    def __init__(
        self,
        config: Config,
        hostname: str,
        *,
        policies: Iterable[Policy] | None = None,
        delivery: Delivery | None = None,
        hub: "Hub | None" = None,
        mock_key: MockKey | None = None,
        is_worker: bool = False,
        slots: SlotRegistry | None = None,
    ) -> None:
        self._config = config
        self._hub = hub
        self._hostname = hostname
        self.mock_key = mock_key or MockKey()
        """The key that mock credentials of unknown users are derived from."""
        self.is_worker = is_worker
        """Whether this process is a worker: see :func:`~triosmtp.server.startup.open_service`."""
        self._given_chain = None if policies is None else Chain(policies)
        self._loader = ModuleLoader(config.folder)
        self._given_delivery = delivery
        self._policies: dict[str, Policy] = {}
        self._client_checks: ClientChecks | None = None
        self._filters: list[FilterKey] = []
        self.events = EventSink()
        """The destination of events of targets: the observers of the service that uses these profiles."""
        self.targets = TargetSet(config, hostname, self._loader, self.events, given=delivery, slots=slots)
        """The targets of mail."""
        self._running: list[trio.CancelScope] = []
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self.script_set: ScriptSet | None = None
        """The policy scripts, if the configuration has any."""
        self._former_scripts: ScriptSet | None = None
        self._chains: dict[Hashable, Chain] = {}
        self._stores: dict[Hashable, Store] = {}
        self._recipient_files: dict[tuple[Path, bool], RecipientFile] = {}
        self._former_files: Mapping[tuple[Path, bool], RecipientFile] = {}
        self._profiles: dict[int, Profile] = {}

    def renewed(self, config: Config) -> "Profiles":
        """Return the profiles of a new configuration that replaces this one.  Its modules are imported again."""
        renewed = Profiles(config, self._hostname, delivery=self._given_delivery, hub=self._hub, mock_key=self.mock_key)
        renewed._given_chain = self._given_chain
        renewed._loader = ModuleLoader(config.folder, self._loader)
        renewed.targets = TargetSet(
            config,
            self._hostname,
            renewed._loader,
            renewed.events,
            given=self._given_delivery,
            memory=self.targets.remembered,
            slots=self.targets.slots,
        )
        renewed._former_scripts = self.script_set
        renewed._former_files = self._recipient_files  # a long list that has not changed is not read again
        return renewed

    async def discard(self) -> None:
        """Discard everything that was made, because the configuration is not put in force."""
        self._loader.discard()
        await self.aclose()

    def start(self, nursery: "trio.Nursery") -> None:
        """Run what deliveries do in the background, until :meth:`aclose`, in ``nursery``."""
        tasks = list(self.targets.tasks())
        if self._client_checks is not None:
            tasks.append(("client checks", self._client_checks.run))
        for name, task in tasks:
            scope = trio.CancelScope()
            self._running.append(scope)
            nursery.start_soon(_run, task, scope, name=name)

    async def aclose(self) -> None:
        """Close every delivery that the options name.  Each has up to 5 s.  Release filters and services."""
        for scope in self._running:
            scope.cancel()
        if self.script_set is not None:
            await self.script_set.engine.close()
        while self._filters:
            self._hub_of_server().filters.release(self._filters.pop())
        for store in self._stores.values():
            if not isinstance(store, PasswordFile | IdentityMap):  # an AuthService
                store.close()
        if self._client_checks is not None:
            self._client_checks.close()
        for close in self._closers:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                try:
                    await close()
                except Exception:  # noqa: BLE001 - an error of a policy must not end the server
                    _log.exception("closing %s failed", getattr(close, "__self__", close))
        await self.targets.aclose()

    def default_targets(self) -> frozenset[str]:
        """Return the names of the targets without which a Listen cannot accept mail."""
        return frozenset(health.name for profile in self._profiles.values() for health in profile.health)

    def prepare(self) -> list[Profile]:
        """Make the profile of every Listen and of each of its Peer blocks.

        :raises ConfigError: with a problem for each policy, delivery and file that cannot be used.
        """
        problems: list[Problem] = []
        profiles = []
        if self._config.scripts is not None:
            collect(problems, self._load_scripts)
        for listen in self._config.listens:
            for settings in self._config.variants(listen):
                profile = collect(problems, partial(self.of, listen, settings))
                if profile is not None:
                    profiles.append(profile)
        if problems:
            raise ConfigError(problems)
        return profiles

    def of(self, listen: Listen, settings: Settings) -> Profile:
        """Return the profile of ``settings``, which the configuration resolved for ``listen``.

        :raises ConfigError: if a policy or the delivery that it names cannot be used.
        """
        profile = self._profiles.get(id(settings))  # no two Listens share the object
        if profile is None:
            profile = self._profiles[id(settings)] = self._make(settings, self._config.server_names(listen))
        return profile

    def _make(self, settings: Settings, server_names: tuple[ServerName, ...]) -> Profile:
        hostname = settings.banner_hostname or self._hostname
        tls = tls_settings(settings, server_names)
        problems = [
            problem_at(settings, "context", f"{key} is written by the TLS engine alone")
            for key in settings.context
            if is_reserved(key)
        ]
        recipients = collect(problems, partial(self._recipients, settings))
        chain = collect(problems, partial(self._chain_with_checks, settings, recipients))
        routing = collect(problems, partial(self.targets.routing, settings, chain or Chain()))
        sasl = collect(problems, partial(self._sasl, settings, chain or Chain()))
        if problems:
            raise ConfigError(problems)
        assert routing is not None
        assert chain is not None
        assert sasl is not None
        return Profile(
            settings=settings,
            rules=_rules(settings, hostname, routing, starttls=tls is not None and not settings.use_ssl),
            banner=_banner(settings, hostname),
            hostname=settings.received_hostname or hostname,
            chain=chain,
            relay=RelayRules.from_settings(settings),
            direct=routing.default[0] if routing.is_plain else None,
            routing=routing,
            health=tuple(each.health for each in routing.default if is_probed(each.delivery)),
            memory=self.targets.memory(routing, chain),
            tls=tls,
            sasl=sasl,
            server_names=server_names,
            recipients=recipients,
            extensions_vary=any(each.delivery.may_honour != each.delivery.honours for each in routing.reachable),
        )

    def _recipients(self, settings: Settings) -> KnownRecipients | None:
        problems: list[Problem] = []

        def open_file(scope: Settings, path: Path, fold: bool) -> RecipientFile:
            key = path, fold
            file = self._recipient_files.get(key) or self._former_files.get(key) or RecipientFile(path, fold=fold)
            self._recipient_files[key] = file
            self._check(problems, scope, "known_recipients", file)
            return file

        known = KnownRecipients.from_settings(settings, self._config.domains, open_file)
        if problems:
            raise ConfigError(problems)
        return known

    def _sasl(self, settings: Settings, chain: Chain) -> SaslConfig:
        sasl = build_sasl_config(settings, chain, self._stores, self.mock_key)
        problems: list[Problem] = []
        schemes = {} if self._config.scripts is None else unanswered_schemes(settings, chain)
        for option, scheme in schemes.items():
            text = f"{scheme}:// is answered by no script: msys.registerAuth registers a scheme"
            problems.append(problem_at(settings, option, text))
        for option, store in sasl.files():
            self._check(problems, settings, option, store)
        if problems:
            raise ConfigError(problems)
        return sasl

    def _check(
        self, problems: list[Problem], settings: Settings, field: str, file: RecipientFile | PasswordFile | IdentityMap
    ) -> None:
        try:
            file.check()
        except (RecipientFileError, AuthFileError) as error:
            if self.is_worker:
                _log.error("%s: its users receive temporary errors", error)
            else:
                problems.append(problem_at(settings, field, str(error)))

    def _chain_with_checks(self, settings: Settings, recipients: KnownRecipients | None) -> Chain:
        """Return the policies of ``settings``, with those of Client_Name, DNSBL_Sites and Greylist."""
        chain = self._chain(settings, recipients)
        if not (settings.client_name or settings.dnsbl_sites or settings.greylist):
            return chain
        if self._client_checks is None:
            from triosmtp.server.client_checks import ClientChecks  # noqa: PLC0415 - few need it

            self._client_checks = ClientChecks(self._config, self.events.emit)
        first, last = self._client_checks.policies(settings)
        return Chain((*first, *chain.policies, *last))

    def _load_scripts(self) -> None:
        """Load the policy scripts.

        :raises ConfigError: if lupa is missing, or if a script cannot be loaded.
        """
        from triosmtp.server.scripts import load_scripts  # noqa: PLC0415 - only if there are scripts

        self.script_set = load_scripts(self._config, self.events, self._former_scripts)

    def _chain(self, settings: Settings, recipients: KnownRecipients | None) -> Chain:
        if self._given_chain is not None:
            return (
                self._given_chain
                if self.script_set is None
                else self._with_scripts(settings, self._given_chain, recipients)
            )
        fallbacks = tuple(settings.policy_fallback_phases.items())
        key: Hashable = settings.policy, settings.policy_timeout, settings.policy_fallback, fallbacks
        filtered = any(map(_is_filter, settings.policy))
        if filtered or self.script_set is not None:
            key = id(settings)  # what filters may do to the envelope depends on other options, too
        chain = self._chains.get(key)
        if chain is None:
            problems: list[Problem] = []
            policies = [
                collect(problems, partial(self._policy, settings, each, recipients)) for each in settings.policy
            ]
            if self.script_set is not None and "lua" not in settings.policy:
                policies.insert(0, self.script_set.policy(settings, self._hostname, recipients))
            if problems:
                raise ConfigError(problems)
            if filtered:
                from triosmtp.server.filter_policies import make_envelope_changes  # noqa: PLC0415 - see _filter()

                policies.insert(0, make_envelope_changes(settings, recipients))
            chain = self._chains[key] = Chain(each for each in policies if each is not None)
        return chain

    def _with_scripts(self, settings: Settings, given: Chain, recipients: KnownRecipients | None) -> Chain:
        assert self.script_set is not None, "there are scripts"
        key = id(settings)
        if key not in self._chains:
            self._chains[key] = Chain((self.script_set.policy(settings, self._hostname, recipients), *given.policies))
        return self._chains[key]

    def _policy(self, settings: Settings, specification: str, recipients: KnownRecipients | None) -> Policy | None:
        if specification == "lua":
            return None if self.script_set is None else self.script_set.policy(settings, self._hostname, recipients)
        if _is_filter(specification):
            return self._filter(settings, specification, recipients)
        scheme, _, group = specification.partition(":")
        if scheme == "websocket":
            otherwise = settings.policy_fallback
            fallbacks = {phase: settings.policy_fallback_phases.get(phase, otherwise) for phase in PHASES}
            return self._hub_of_server().policy(group, timeout=settings.policy_timeout, fallback_phases=fallbacks)
        if specification not in self._policies:
            make = partial(load_policy, self._loader, specification)
            self._policies[specification] = _found(settings, "policy", make)
        return self._policies[specification]

    def _filter(self, settings: Settings, specification: str, recipients: KnownRecipients | None) -> Policy:
        from triosmtp.server.filter_policies import make_filter_policy  # noqa: PLC0415 - only if there are filters

        filters = self._hub_of_server().filters
        # The name of our Authentication-Results: filters take it for theirs, and forged fields with it are removed.
        hostname = settings.received_hostname or settings.banner_hostname or self._hostname
        policy, key = make_filter_policy(self._config, settings, specification, filters, recipients, hostname)
        self._filters.append(key)
        close = getattr(policy, "aclose", None)
        if close is not None:
            self._closers.append(close)
        return policy

    def _hub_of_server(self) -> "Hub":
        if self._hub is None:  # without a server, as in `triosmtp check`
            from triosmtp.policy_service.hub import Hub  # noqa: PLC0415 - a server has imported it

            self._hub = Hub()
        return self._hub


async def _run(task: Callable[[], Awaitable[None]], scope: "trio.CancelScope") -> None:
    with scope:
        try:
            await task()
        except Exception:  # noqa: BLE001 - an error of a delivery must not end the server
            _log.exception("a background task of a delivery failed: %r", task)


def _is_filter(specification: str) -> bool:
    return specification.startswith(("policyd:", "milter:", "rspamd:", "filter:"))


def _found(settings: Settings, field: str, make: Callable[[], _T]) -> _T:
    try:
        return make()
    except (ValueError, AuthFileError) as error:
        raise ConfigError([problem_at(settings, field, str(error))]) from error


def unhonoured(settings: Settings, delivery: Delivery) -> tuple[str, ...]:
    """Return the extensions of SMTP_Extensions that are never offered, because ``delivery`` does not honour them."""
    return tuple(x for x in settings.smtp_extensions if x in DELIVERY_EXTENSIONS and x not in delivery.may_honour)


def _honoured(routing: Routing) -> frozenset[str]:
    """Return the extensions that every target honours now."""
    return frozenset(DELIVERY_EXTENSIONS).intersection(*(each.delivery.honours for each in routing.reachable))


def _rules(settings: Settings, hostname: str, routing: Routing, *, starttls: bool) -> ConnectionSettings:
    extensions = {name.upper() for name in settings.smtp_extensions}
    optional = extensions & {"CHUNKING", "LIMITS", *DELIVERY_EXTENSIONS, *TRUSTED_EXTENSIONS}
    return ConnectionSettings(
        hostname=hostname,
        starttls=starttls and "STARTTLS" in extensions,
        enhanced_status_codes="ENHANCEDSTATUSCODES" in extensions,
        extensions=frozenset(optional.difference(DELIVERY_EXTENSIONS) | (optional & _honoured(routing))),
        max_mails=settings.max_receptions_per_connection,
        max_recipients=settings.max_recipients_per_message,
        max_message_size=settings.max_message_size,
        require_hello=settings.require_ehlo,
        allow_null_sender=settings.allow_null_envelope_sender,
        allow_ip_literal=settings.allow_ip_literal,
        allow_unbracketed=settings.allow_unbracketed_addresses,
        allow_trailing_whitespace=settings.allow_trailing_whitespace_in_commands,
        sender_domain=settings.domain_for_unqualified_sender_address,
        recipient_domain=settings.domain_for_unqualified_recipient_addresses,
        starttls_injection=settings.starttls_injection_policy,
        lone_lf_in_headers=settings.rfc2822_lone_lf_in_headers,
        lone_lf_in_body=settings.rfc2822_lone_lf_in_body,
        max_command_errors=settings.max_command_errors,
        max_junk_commands=settings.max_junk_commands,
        max_body_line=settings.rfc2822_max_line_length,
        long_lines=settings.rfc2822_max_line_length_policy,
        require_tls=settings.require_tls,
    )


def _banner(settings: Settings, hostname: str) -> Reply:
    if not settings.static_banner:
        return Reply(220, f"{hostname} ESMTP")
    return Reply(220, settings.static_banner.removeprefix("220 "))  # the option includes the code
