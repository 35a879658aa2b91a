"""Makes the delivery of an HTTP target from its options."""

import re
from functools import partial

from triosmtp.config import TargetSettings, problem_at
from triosmtp.delivery import SecretFile, SecretFileError, TargetContext
from triosmtp.errors import ConfigError, Problem
from triosmtp.http_client.http_client import HTTPClient
from triosmtp.http_client.tls_files import TLSFiles, TLSFilesError
from triosmtp.http_delivery.http_delivery import HTTPDelivery, HTTPTarget
from triosmtp.http_delivery.request_pool import RequestPool
from triosmtp.http_delivery.webhook_signature import SigningSecrets

__all__ = ["make_http_delivery"]

_NOT_OF_NODES = re.compile(r"[^A-Za-z0-9-]")


def make_http_delivery(target: TargetSettings, context: TargetContext) -> HTTPDelivery:
    """Return the delivery.  It reads the files of TLS and the secrets.

    :raises ConfigError: with a problem for each file that cannot be used.
    """
    settings, problems = target.settings, list[Problem]()
    files, secrets = None, None
    if target.scheme == "https":
        certificate, key = (next(iter(each), None) for each in (settings.tls_certificate, settings.tls_key))
        files = TLSFiles(
            settings.tls_ca,
            certificate,
            key,
            verify=settings.tls_verify,
            fingerprints=tuple((each.kind, each.value) for each in settings.tls_fingerprints),
            ciphers=settings.tls_ciphers if "tls_ciphers" in settings.places else "",
            protocols=settings.tls_protocols,
        )
        try:
            files.load()
        except TLSFilesError as error:
            problems.append(problem_at(settings, error.option.lower(), str(error)))
    if settings.secret_file is not None:
        secrets = SigningSecrets(SecretFile(settings.secret_file, secrets=2))
        try:
            secrets.check()
        except SecretFileError as error:
            problems.append(problem_at(settings, "secret_file", str(error)))
    if problems:
        raise ConfigError(problems)
    http = HTTPTarget(
        name=target.name,
        urls=tuple(map(str, target.addresses)),
        tls_name=settings.tls_name,
        seconds=settings.body_timeout,
        connections=settings.max_outbound_connections,
        node=context.node or _NOT_OF_NODES.sub("-", context.hostname)[:32],
        secrets=secrets,
    )
    make_client = partial(
        HTTPClient,
        files,
        connections=1,
        user_agent="triosmtp",
        connect_seconds=settings.connect_timeout,
        idle_seconds=settings.idle_timeout,
    )
    make_client()  # it imports the rest of httpx
    pool = RequestPool(make_client, context.slots(http.connections), settings.idle_timeout)
    return HTTPDelivery(http, pool, context.health)
