"""What the options say of AUTH: which mechanisms are offered when, and what each is checked against."""

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path

from attrs import frozen

from triosmtp.auth import MECHANISMS, PLAINTEXT, IdentityMap, PasswordFile
from triosmtp.config import AuthParameters, Settings, mechanisms_of
from triosmtp.policy import Chain
from triosmtp.variables import TLSInfo

__all__ = ["Sasl", "Store", "make_sasl"]

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


@frozen(slots=True)
class Sasl:
    """The AUTH of one resolved set of options."""

    stores: Mapping[str, Store]
    """Each mechanism that can be offered, the strongest first."""
    unbacked: tuple[str, ...]
    """Those that are listed and have nothing to be checked against."""
    identities: IdentityMap | None
    plaintext: bool

    def offered(self, tls: TLSInfo | None, *, identified: bool) -> tuple[str, ...]:
        """Give the mechanisms to offer; ``identified`` is whether the client certificate stands for somebody."""
        return tuple(
            name
            for name in self.stores
            if (tls is not None or not self._needs_tls(name)) and (identified or name != "EXTERNAL")
        )

    def withheld(self, tls: TLSInfo | None) -> frozenset[str]:
        """Give those that wait for TLS."""
        return frozenset(name for name in self.stores if self._needs_tls(name)) if tls is None else frozenset()

    def _needs_tls(self, name: str) -> bool:
        return MECHANISMS[name].needs_tls or (name in PLAINTEXT and not self.plaintext)

    def files(self) -> Iterator[tuple[str, PasswordFile | IdentityMap]]:
        """Give each file that is asked, with the field of the option that names it."""
        for store in self.stores.values():
            if store.file is not None:
                yield store.field, store.file
        if self.identities is not None and self.identities.path is not None:
            yield "authexternalparameters", self.identities


def make_sasl(settings: Settings, chain: Chain, known: dict[Hashable, PasswordFile | IdentityMap]) -> Sasl:
    """Read the options; ``known`` are the files that other options named, and grows."""
    stores: dict[str, Store] = {}
    unbacked: list[str] = []
    identities: IdentityMap | None = None
    by_policy = chain.asks("auth")
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
        field = next((each for each in _FIELDS[name] if getattr(settings, each) is not None), None)
        if field is not None:
            stores[name] = _store(field, getattr(settings, field), known)
        elif (by_policy and name in PLAINTEXT) or settings.always_allow or settings.always_deny:
            stores[name] = Store(_FIELDS[name][0])
        else:
            unbacked.append(name)
    return Sasl(stores, tuple(unbacked), identities, settings.allow_plaintext_auth)


def _store(field: str, parameters: AuthParameters, known: dict[Hashable, PasswordFile | IdentityMap]) -> Store:
    key: tuple[Path, bool, bool | None] = (parameters.path, parameters.digests, parameters.stored_cleartext)
    file = known.get(key)
    if file is None:
        file = known[key] = PasswordFile(key[0], digests=key[1], cleartext=key[2])
    assert isinstance(file, PasswordFile)
    return Store(field, file, parameters.realm, parameters.log_authentication)
