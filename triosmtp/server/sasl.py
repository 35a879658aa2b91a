"""What the options say of AUTH: which mechanisms are offered when, and what each is checked against."""

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path

from attrs import frozen

from triosmtp.auth import MECHANISMS, PLAINTEXT, IdentityMap, MockKey, PasswordFile
from triosmtp.auth.password import load_libraries
from triosmtp.config import AuthParameters, Settings, mechanisms_of
from triosmtp.policy import Chain
from triosmtp.variables import TLSInfo

__all__ = ["SaslConfig", "Store", "build_sasl_config"]

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "PLAIN": ("authplainparameters",),
    "LOGIN": ("authloginparameters", "authplainparameters"),
    "CRAM-MD5": ("authcrammd5parameters",),
    "DIGEST-MD5": ("authdigestmd5parameters",),
    "SCRAM-SHA-256": ("authscramparameters", "authplainparameters"),
    "SCRAM-SHA-256-PLUS": ("authscramparameters", "authplainparameters"),
}
"""The options that say what a mechanism checks against; the first that is set does."""


@frozen(slots=True)
class Store:
    """What one mechanism is checked against; ``file`` is None where policy alone decides."""

    field: str
    file: PasswordFile | None = None
    realm: str = ""
    logged: bool = True
    otherwise: bool = False
    """Whether something beside the file lets users in."""

    def serves(self, name: str) -> bool:
        """Whether anybody can use the mechanism of that name, by what was last read."""
        return self.file is None or self.otherwise or self.served_by(name) > 0

    def served_by(self, name: str) -> int:
        """Give how many users of the file can use it."""
        return 0 if self.file is None else self.file.served_by(MECHANISMS[name].forms, self.realm)


@frozen(slots=True)
class SaslConfig:
    """The AUTH of one resolved set of options."""

    stores: Mapping[str, Store]
    """Each mechanism that can be offered, the strongest first."""
    unbacked: tuple[str, ...]
    """Those that are listed and have nothing to be checked against."""
    identities: IdentityMap | None
    plaintext: bool

    def due(self, now: float) -> tuple[PasswordFile, ...]:
        """Give the files of passwords that are to be looked at again: what is offered follows them."""
        files = {store.file for store in self.stores.values() if store.file is not None}
        return tuple(file for file in files if file.is_due(now))

    def offered(self, tls: TLSInfo | None, *, identified: bool) -> tuple[str, ...]:
        """Give the mechanisms to offer; ``identified`` is whether the client certificate stands for somebody."""
        return tuple(
            name
            for name, store in self.stores.items()
            if store.serves(name)
            and (tls is not None or not self._needs_tls(name))
            and (identified or name != "EXTERNAL")
        )

    def withheld(self, tls: TLSInfo | None) -> frozenset[str]:
        """Give those that wait for TLS."""
        if tls is not None:
            return frozenset()
        return frozenset(name for name, store in self.stores.items() if store.serves(name) and self._needs_tls(name))

    def _needs_tls(self, name: str) -> bool:
        return MECHANISMS[name].needs_tls or (name in PLAINTEXT and not self.plaintext)

    def files(self) -> Iterator[tuple[str, PasswordFile | IdentityMap]]:
        """Give each file that is asked, with the field of the option that names it."""
        for store in self.stores.values():
            if store.file is not None:
                yield store.field, store.file
        if self.identities is not None and self.identities.path is not None:
            yield "authexternalparameters", self.identities


def build_sasl_config(
    settings: Settings, chain: Chain, known: dict[Hashable, PasswordFile | IdentityMap], mock_key: MockKey
) -> SaslConfig:
    """Read the options; ``known`` are the files that other options named, and grows."""
    stores: dict[str, Store] = {}
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
            made = known.setdefault(external.map, IdentityMap(external.map))
            assert isinstance(made, IdentityMap)
            identities = made
            stores[name] = Store("authexternalparameters", logged=external.log_authentication)
            continue
        otherwise = by_option or (by_policy and name in PLAINTEXT)
        field = next((each for each in _FIELDS[name] if getattr(settings, each) is not None), None)
        parameters: AuthParameters | None = None if field is None else getattr(settings, field)
        if parameters is not None and parameters.module:
            unbacked.append(name)  # whatever a policy would say: somebody else was meant to be asked
        elif field is not None and parameters is not None:
            file = _file(parameters, known, mock_key)
            stores[name] = Store(field, file, parameters.realm, parameters.log_authentication, otherwise)
        elif otherwise:
            stores[name] = Store(_FIELDS[name][0])
        else:
            unbacked.append(name)
    if stores:
        load_libraries()
    return SaslConfig(stores, tuple(unbacked), identities, settings.allow_plaintext_auth)


def _file(
    parameters: AuthParameters, known: dict[Hashable, PasswordFile | IdentityMap], mock_key: MockKey
) -> PasswordFile:
    key: tuple[Path, bool, bool | None] = (parameters.path, parameters.digests, parameters.stored_cleartext)
    file = known.get(key)
    if file is None:
        file = known[key] = PasswordFile(key[0], digests=key[1], cleartext=key[2], key=mock_key.get())
    assert isinstance(file, PasswordFile)
    return file
