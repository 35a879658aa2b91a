"""The options of AUTH: which mechanisms are offered, and the file or the service that each uses."""

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve, frozen

from triosmtp import auth  # its names are imported at their first use: most configurations have no AUTH
from triosmtp.auth import IdentityMap, MockKey, PasswordFile
from triosmtp.auth.password import load_libraries
from triosmtp.config import MOMENTUM_SCHEMES, AuthParameters, ExternalParameters, Settings, mechanisms_of
from triosmtp.policy import Chain, PasswordAnswer, PasswordCheck, PasswordQuestion, Session
from triosmtp.variables import TLSInfo

if TYPE_CHECKING:
    from triosmtp.server.auth_service import AuthService

__all__ = ["CredentialSource", "SaslConfig", "Store", "build_sasl_config", "unanswered_schemes"]

Store: TypeAlias = "PasswordFile | IdentityMap | AuthService"
"""What knows users: their passwords, or their certificates."""

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "PLAIN": ("authplainparameters",),
    "LOGIN": ("authloginparameters", "authplainparameters"),
    "CRAM-MD5": ("authcrammd5parameters",),
    "DIGEST-MD5": ("authdigestmd5parameters",),
    "SCRAM-SHA-256": ("authscramparameters", "authplainparameters"),
    "SCRAM-SHA-256-PLUS": ("authscramparameters", "authplainparameters"),
}
"""The options with the file of a mechanism; the first one that is set is used."""


@frozen(slots=True)
class CredentialSource:
    """The file or the service of one mechanism; without either only policy decides."""

    field: str
    file: PasswordFile | None = None
    realm: str = ""
    logged: bool = True
    has_other_authority: bool = False
    """Whether a policy or an option can accept users that are not in the file."""
    service: "AuthService | None" = None
    parameters: AuthParameters | None = None
    """The parameters of a mechanism whose passwords a policy checks."""
    check: PasswordCheck | None = None
    """That policy."""

    async def checked(self, session: Session, user: str, password: str) -> PasswordAnswer:
        """Ask the policy about a password."""
        assert self.check is not None
        assert self.parameters is not None
        question = PasswordQuestion(
            scheme=self.parameters.module,
            file_name=self.parameters.file_name,
            arguments=dict(self.parameters.arguments),
            user=user,
            password=password,
        )
        return await self.check.check_password(session, question)

    def serves(self, name: str) -> bool:
        """Return whether any user can use the mechanism of that name, as far as is known."""
        if self.service is not None:
            return self.service.offers(name)
        return self.file is None or self.has_other_authority or self.served_by(name) > 0

    def served_by(self, name: str) -> int:
        """Return how many users of the file can use the mechanism."""
        return 0 if self.file is None else self.file.served_by(auth.MECHANISMS[name].forms, self.realm)


@frozen(slots=True)
class SaslConfig:
    """AUTH for one resolved set of options."""

    stores: Mapping[str, CredentialSource]
    """Every mechanism that can be offered; the strongest is first."""
    unbacked: tuple[str, ...]
    """Mechanisms of SMTP_Extensions without a file, a service or a policy."""
    identities: IdentityMap | None
    plaintext: bool
    service: "AuthService | None" = None
    """The Auth_Service, which has all mechanisms."""

    def due(self, now: float) -> tuple[PasswordFile, ...]:
        """Return the password files that must be checked again, because the offer depends on them."""
        files = {store.file for store in self.stores.values() if store.file is not None}
        return tuple(file for file in files if file.is_due(now))

    def offered(self, tls: TLSInfo | None, *, identified: bool) -> tuple[str, ...]:
        """Return the mechanisms to offer; ``identified`` is whether the client certificate identifies a user."""
        return tuple(
            name
            for name, store in self.stores.items()
            if store.serves(name)
            and (tls is not None or not self._needs_tls(name, store))
            and (identified or name != "EXTERNAL")
        )

    def withheld(self, tls: TLSInfo | None) -> frozenset[str]:
        """Return the mechanisms that require TLS first."""
        if tls is not None:
            return frozenset()
        return frozenset(
            name for name, store in self.stores.items() if store.serves(name) and self._needs_tls(name, store)
        )

    def _needs_tls(self, name: str, store: CredentialSource) -> bool:
        if name in auth.MECHANISMS and auth.MECHANISMS[name].needs_tls:
            return True
        is_readable = name in auth.READABLE_SECRETS or (store.service is not None and store.service.is_readable(name))
        return is_readable and not self.plaintext

    def files(self) -> Iterator[tuple[str, PasswordFile | IdentityMap]]:
        """Yield each file, with the field of the option that names it."""
        for store in self.stores.values():
            if store.file is not None:
                yield store.field, store.file
        if self.identities is not None and self.identities.path is not None:
            yield "authexternalparameters", self.identities


def build_sasl_config(settings: Settings, chain: Chain, known: dict[Hashable, Store], mock_key: MockKey) -> SaslConfig:
    """Build the AUTH of ``settings``.  ``known`` has what other options name; new files and services are added."""
    if settings.auth_service is not None:
        return _with_service(settings, settings.auth_service, known)
    stores: dict[str, CredentialSource] = {}
    unbacked: list[str] = []
    identities: IdentityMap | None = None
    by_policy = "auth" in chain.phases
    by_option = settings.always_allow or settings.always_deny
    for name in mechanisms_of(settings.smtp_extensions):
        if name == "EXTERNAL":
            external = settings.authexternalparameters
            if external is None:
                unbacked.append(name)
                continue
            identities = _identities(external, known)
            stores[name] = CredentialSource("authexternalparameters", logged=external.log_authentication)
            continue
        has_other_authority = by_option or (by_policy and name in auth.PLAINTEXT)
        field = next((each for each in _FIELDS.get(name, ()) if getattr(settings, each) is not None), None)
        parameters: AuthParameters | None = None if field is None else getattr(settings, field)
        if field is not None and parameters is not None and parameters.module:
            check = _check_of(chain, parameters.module) if name in auth.PLAINTEXT else None
            if check is None:
                unbacked.append(name)  # another module of Momentum was meant to decide, not a policy
            else:
                logged = parameters.log_authentication
                stores[name] = CredentialSource(field, logged=logged, parameters=parameters, check=check)
        elif field is not None and parameters is not None:
            file = _file(parameters, known, mock_key)
            stores[name] = CredentialSource(
                field, file, parameters.realm, parameters.log_authentication, has_other_authority
            )
        elif has_other_authority and name in auth.MECHANISMS:
            stores[name] = CredentialSource(_FIELDS[name][0])
        else:
            unbacked.append(name)
    if stores:
        load_libraries()
    return SaslConfig(stores, tuple(unbacked), identities, settings.allow_plaintext_auth)


def unanswered_schemes(settings: Settings, chain: Chain) -> dict[str, str]:
    """Return the fields of options whose URI has a scheme that neither Momentum nor a policy knows, and the scheme."""
    found = {}
    for name in mechanisms_of(settings.smtp_extensions):
        for field in _FIELDS.get(name, ()):
            parameters: AuthParameters | None = getattr(settings, field)
            scheme = "" if parameters is None or parameters.is_of_momentum else parameters.module
            if scheme and scheme.lower() not in MOMENTUM_SCHEMES and _check_of(chain, scheme) is None:
                found[field] = scheme
    return found


def _check_of(chain: Chain, scheme: str) -> PasswordCheck | None:
    """Return the first policy that checks passwords of a scheme."""
    checks = (each for each in chain.policies if isinstance(each, PasswordCheck))
    return next((each for each in checks if each.answers(scheme)), None)


def _with_service(settings: Settings, path: Path, known: dict[Hashable, Store]) -> SaslConfig:
    """Return the AUTH of a configuration with an Auth_Service."""
    from triosmtp.server.auth_service import AuthService  # noqa: PLC0415 - few need it

    service = known.setdefault(("dovecot", path), AuthService(path))
    assert isinstance(service, AuthService)
    external = settings.authexternalparameters
    identities = None if external is None else _identities(external, known)
    listed = mechanisms_of(settings.smtp_extensions)
    # No version of Dovecot's protocol that is spoken takes channel bindings.
    unbacked = tuple(x for x in listed if x.endswith("-PLUS") or (x == "EXTERNAL" and identities is None))
    stores = {name: CredentialSource("auth_service", service=service) for name in listed if name not in unbacked}
    if external is not None and "EXTERNAL" in stores:
        stores["EXTERNAL"] = evolve(stores["EXTERNAL"], logged=external.log_authentication)
    return SaslConfig(stores, unbacked, identities, settings.allow_plaintext_auth, service)


def _identities(external: ExternalParameters, known: dict[Hashable, Store]) -> IdentityMap:
    made = known.setdefault(external.map, IdentityMap(external.map))
    assert isinstance(made, IdentityMap)
    return made


def _file(parameters: AuthParameters, known: dict[Hashable, Store], mock_key: MockKey) -> PasswordFile:
    key: tuple[Path, bool, bool | None] = (parameters.path, parameters.digests, parameters.stored_cleartext)
    file = known.get(key)
    if file is None:
        file = known[key] = PasswordFile(key[0], digests=key[1], cleartext=key[2], key=mock_key.get())
    assert isinstance(file, PasswordFile)
    return file
