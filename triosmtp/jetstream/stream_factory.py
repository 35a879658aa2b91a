"""Makes the delivery of a target ``nats://…``, and the logins at servers of NATS."""

import logging
import re
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from triosmtp.config import Settings, TargetAddress, TargetSettings, problem_at
from triosmtp.delivery import Delivery, SecretFile, TargetContext
from triosmtp.errors import ConfigError, Problem
from triosmtp.jetstream.event_publisher import EventPublisher
from triosmtp.jetstream.nats_client import NATSLogin
from triosmtp.jetstream.nats_credentials import NATSCredentialsError, read_credentials, read_secret
from triosmtp.jetstream.stream_address import stream_address
from triosmtp.jetstream.stream_delivery import StreamDelivery

__all__ = ["make_event_publisher", "make_login", "make_stream_delivery"]

_log = logging.getLogger("triosmtp.nats")

_VERSIONS: Final = {
    "TLSv1.0": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


def make_stream_delivery(target: TargetSettings, context: TargetContext) -> Delivery:
    """Return the delivery of ``target``; nothing is opened.  Blocks.

    :raises ConfigError: if files of its options cannot be used.
    :raises ValueError: if there is no Node_Name.
    """
    if not context.node:
        raise ValueError("needs a Node_Name, which makes ids of messages different on each node")
    return StreamDelivery(
        stream_address(target), make_login(target), context.node, context.health, target.settings.monitor
    )


def make_login(target: TargetSettings) -> NATSLogin:
    """Return how to connect to the servers of ``target``, after its files were tried.  Blocks.

    :raises ConfigError: with a problem for each option whose file cannot be used.
    """
    settings, address = target.settings, target.addresses[0]
    problems: list[Problem] = []
    _try_file(problems, settings, "credentials_file", read_credentials)
    _try_file(problems, settings, "auth_password_file", read_secret)
    context = partial(_tls_context, settings)
    try:
        context()
    except (OSError, ValueError) as error:
        field = next((name for name in ("tls_ca", "tls_certificate", "tls_ciphers") if name in settings.places), "tls")
        problems.append(problem_at(settings, field, f"cannot be used: {error}"))
    if problems:
        raise ConfigError(problems)
    return NATSLogin(
        tls=target.tls_mode(address) == "required",
        tls_context=context,
        tls_name=settings.tls_name,
        tls_fingerprints=settings.tls_fingerprints,
        connect_timeout=settings.connect_timeout,
        credentials_file=settings.credentials_file,
        user=settings.auth_user,
        password_file=settings.auth_password_file,
    )


def make_event_publisher(settings: Settings) -> EventPublisher:
    """Return what publishes events as ``settings``, which have Publish_Events, say.  Blocks.

    :raises ConfigError: if there is no Node_Name, or the file of credentials cannot be used.
    """
    address, file = settings.publish_events, settings.publish_events_credentials_file
    assert address is not None
    problems: list[Problem] = []
    if settings.node_name is None:
        problems.append(problem_at(settings, "publish_events", "needs a Node_Name"))
    _try_file(problems, settings, "publish_events_credentials_file", read_credentials)
    if problems:
        raise ConfigError(problems)
    return EventPublisher(address, events_login(address, file), settings.node_name or "")


def events_login(address: TargetAddress, credentials: Path | None) -> NATSLogin:
    """Return how to connect to the servers of events: with TLS and a verified name, unless they are on this host."""
    return NATSLogin(tls=not address.is_local, credentials_file=credentials)


def _try_file(problems: list[Problem], settings: Settings, field: str, read: Callable[[Path], Any]) -> None:
    path: Path | None = getattr(settings, field)
    if path is None:
        return
    try:
        read(path)
    except NATSCredentialsError as error:
        problems.append(problem_at(settings, field, str(error)))
    if exposure := SecretFile(path).exposure:
        _log.warning("%s", exposure)


def _tls_context(settings: Settings) -> ssl.SSLContext:
    """Return a context from the files as they are now.

    :raises OSError: if a file cannot be read or used.
    :raises ValueError: if an option cannot be used.
    """
    context = ssl.create_default_context(cafile=None if settings.tls_ca is None else str(settings.tls_ca))
    if settings.tls_ca is not None:  # each certificate of the file is trusted, as for other targets
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if settings.tls_verify != "host" or settings.tls_fingerprints:
        context.check_hostname = False
    if settings.tls_verify == "no" or settings.tls_fingerprints:
        context.verify_mode = ssl.CERT_NONE  # a fingerprint is compared after the handshake
    if settings.tls_certificate:
        key = settings.tls_key[0] if settings.tls_key else None
        context.load_cert_chain(settings.tls_certificate[0], key)
    if "tls_protocols" in settings.places:
        versions = sorted(_VERSIONS[each] for each in settings.tls_protocols)
        context.minimum_version, context.maximum_version = versions[0], versions[-1]
    if "tls_ciphers" in settings.places:
        # Python cannot choose suites of TLS 1.3, and refuses a list that has no others.
        names = [name for name in re.split(r"[:, ]+", settings.tls_ciphers) if name and not name.startswith("TLS_")]
        if names:
            context.set_ciphers(":".join(names))
    return context
