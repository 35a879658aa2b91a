"""The checks of targets: Delivery scopes, the lists in Deliver_To, and Domain scopes that contradict one another."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from triosmtp.config.configuration import Config
from triosmtp.config.option import DELIVERY, SCRIPTLET
from triosmtp.config.options import OPTIONS
from triosmtp.config.resolution import domain_blocks
from triosmtp.config.scope import Block
from triosmtp.config.source import Place, Problems
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.target_settings import TargetSettings
from triosmtp.config.tls_check import pairing_errors
from triosmtp.config.types.option_type import quote
from triosmtp.config.types.target_address import is_delivery_name, parse_target

__all__ = ["READ_BY_SCHEME", "check_deliveries"]

_MAX_COPIES: Final = 4
_HOPS: Final = {"lmtp", "smtp", "smtps"}
_ALTERNATIVES: Final = _HOPS | {"http", "https"}
_EVERYWHERE: Final = frozenset({"deliver_to", "delivery_grace"})
_TLS: Final = frozenset({"tls_ca", "tls_certificate", "tls_key", "tls_name", "tls_ciphers", "tls_protocols"})
_NETWORK: Final = _EVERYWHERE | _TLS | {
    "tls", "tls_verify", "tls_fingerprints", "connect_timeout", "body_timeout", "idle_timeout",
    "max_outbound_connections",
}  # fmt: skip
_HOP: Final = _NETWORK | {
    "verify_recipients", "ehlo_hostname", "ehlo_timeout", "mailfrom_timeout", "rcptto_timeout", "xclient",
    "max_deliveries_per_connection", "auth_user", "auth_password_file",
}  # fmt: skip
_HTTP: Final = _EVERYWHERE | {
    "connect_timeout", "body_timeout", "idle_timeout", "max_outbound_connections", "secret_file",
}  # fmt: skip
_NATS: Final = _EVERYWHERE | _TLS | {
    "tls", "tls_verify", "tls_fingerprints", "connect_timeout", "body_timeout", "auth_user", "auth_password_file",
    "credentials_file", "monitor",
}  # fmt: skip
READ_BY_SCHEME: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(_HOPS, _HOP),
    "http": _HTTP,
    "https": _HTTP | _TLS | {"tls_verify", "tls_fingerprints"},
    "nats": _NATS,
    **dict.fromkeys(("maildir", "discard", "python"), _EVERYWHERE),
}
"""The options of a Delivery that have an effect, by the scheme of its addresses."""

Tell: TypeAlias = Callable[[str, str], None]
"""Called with the field of an option, and a message about it."""


def check_deliveries(config: Config, problems: Problems) -> None:
    """Report what is wrong with Delivery scopes, with the targets that Deliver_To names, and with Domain scopes."""
    root = config.root
    scopes = {block.instance or "": block for block in root.of_kind(DELIVERY)}
    for block in scopes.values():
        _check_scope(config, block, problems)
    _check_domains(root, problems)
    if not root.unknown.isdisjoint({"*", "delivery"}):
        return
    named: set[str] = set()
    unread = bool(root.of_kind(SCRIPTLET))  # scripts are policies, and may choose any of them
    for block in _blocks(root):
        unread = unread or not block.unknown.isdisjoint({"*", "deliver_to"}) or "policy" in block.assignments
        for field, targets, place in _targets_in(block):
            names = set(filter(is_delivery_name, targets))
            named |= names
            for name in sorted(names.difference(scopes)):
                unread = True  # it may be the name of one that seems not to be used
                close = suggest(nearest(name, scopes))
                problems.error(place, f"{OPTIONS[field].name}: there is no Delivery {quote(name)}{close}")
            if names <= config.deliveries.keys():
                _check_copies([config.target(each) for each in targets], place, problems)
    for found in config.consumers.values():
        named |= {str(found.read_from), str(found.report_to)}
    for name, block in scopes.items():
        if name not in named and block.place is not None and not unread:
            problems.warn(
                block.place, f"{block} is not used: no Deliver_To names it, and there is no Policy that could"
            )


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for child in block.children.values():
        yield from _blocks(child)


def _targets_in(block: Block) -> Iterator[tuple[str, tuple[str, ...], Place]]:
    """Yield field, targets and place of each option of a block that names targets; those of a Delivery are its own."""
    deliver_to, hold_to = block.assignments.get("deliver_to"), block.assignments.get("hold_to")
    if block.kind != DELIVERY and deliver_to is not None and isinstance(deliver_to.value, tuple):
        yield "deliver_to", deliver_to.value, deliver_to.place
    if hold_to is not None:
        yield "hold_to", (str(hold_to.value),), hold_to.place


def _check_copies(targets: list[TargetSettings], place: Place, problems: Problems) -> None:
    if len(targets) > _MAX_COPIES:
        problems.error(place, f"Deliver_To: at most {_MAX_COPIES} targets receive a copy, found {len(targets)}")
    hops = [target.name for target in targets if target.scheme in _HOPS]
    if len(hops) > 1:
        problems.error(place, f"Deliver_To: at most one target may be of LMTP or SMTP, found {' and '.join(hops)}")


def _check_domains(root: Block, problems: Problems) -> None:
    """Report a domain for which two scopes set the same option: nothing says which of them would be in force."""
    first: dict[tuple[object, str], Block] = {}
    for block in domain_blocks(root):
        for field, assignment in block.assignments.items():
            other = first.setdefault((block.key, field), block)
            if other is not block and other.assignments[field].value != assignment.value:
                at = other.assignments[field].place.position
                problems.error(assignment.place, f"{OPTIONS[field].name}: {block} has another value at {at}")


# One Delivery


def _check_scope(config: Config, block: Block, problems: Problems) -> None:
    if not block.unknown.isdisjoint({"*", "deliver_to"}) or block.place is None:
        return
    assignment = block.assignments.get("deliver_to")
    if assignment is None:
        problems.error(block.place, f"{block} needs a Deliver_To")
        return
    assert isinstance(assignment.value, tuple), "its type"
    name = next(filter(is_delivery_name, assignment.value), None)
    if name is not None:
        problems.error(assignment.place, f"Deliver_To: an address is needed here, and {quote(name)} is a name")
        return
    schemes = {parse_target(each).scheme for each in assignment.value}
    if len(schemes) > 1 or (len(assignment.value) > 1 and schemes.isdisjoint(_ALTERNATIVES)):
        message = "several addresses are alternatives, so they need one scheme, of LMTP, SMTP or HTTP"
        problems.error(assignment.place, f"Deliver_To: {message}")
        return

    def error(field: str, message: str) -> None:
        if field not in block.unknown:
            problems.error(block.assignments[field].place, f"{OPTIONS[field].name}: {message}")

    def warn(field: str, message: str) -> None:
        problems.warn(block.assignments[field].place, f"{OPTIONS[field].name}: {message}")

    read = READ_BY_SCHEME[schemes.pop()]
    target = config.target(block.instance or "")
    for field in block.assignments.keys() - read:
        warn(field, f"has no effect for {target.scheme}:")
    if not block.unknown:
        _check_tls(target, block, error, warn)
        _check_secrets(target, block, error)


def _check_tls(target: TargetSettings, block: Block, error: Tell, warn: Tell) -> None:
    settings = target.settings
    for field, message in pairing_errors(str(block), settings):
        error(field, message)
    if settings.tls_key and not settings.tls_certificate:
        error("tls_key", "needs a TLS_Certificate")
    if len(settings.tls_certificate) > 1:
        error("tls_certificate", "one certificate is presented to a target")
    if settings.tls in {"no", "ifavailable"} and not target.is_local and target.scheme in {"lmtp", "smtp", "nats"}:
        warn("tls", f"{quote(settings.tls)}: mail may be read on the way to the target")
    modern = [name for name in re.split(r"[:, ]+", settings.tls_ciphers) if name.startswith("TLS_")]
    if modern and target.scheme in {"https", "nats"} and "tls_ciphers" in block.assignments:
        warn("tls_ciphers", f"{modern[0]} has no effect for {target.scheme}: suites of TLS 1.3 are OpenSSL's there")
    if settings.tls == "no" and target.scheme in {"smtps", "https"}:
        error("tls", f"{target.scheme} is TLS: leave it out")
    by_name = target.scheme in _HOPS and settings.tls_verify == "host" and not settings.tls_fingerprints
    if by_name and any(target.tls_mode(each) != "no" and not target.tls_name(each) for each in target.addresses):
        error("deliver_to", "a Unix socket has no name that a certificate could be for: TLS_Name is needed")
    if settings.tls_verify != "host" and not target.is_local and not settings.tls_fingerprints:
        warn("tls_verify", f"{quote(settings.tls_verify)}: others may receive the mail in place of the target")


def _check_secrets(target: TargetSettings, block: Block, error: Tell) -> None:
    settings = target.settings
    for field, partner in (("auth_user", "auth_password_file"), ("auth_password_file", "auth_user")):
        if field in block.assignments and partner not in block.assignments:
            error(field, f"needs {OPTIONS[partner].name}")
    if settings.auth_user is not None and any(target.tls_mode(each) != "required" for each in target.addresses):
        error("auth_user", 'AUTH is never used without TLS: TLS = "required" is needed')
