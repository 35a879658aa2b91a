"""Makes the delivery of a target of the schemes lmtp, smtp and smtps."""

from attrs import evolve

from triosmtp.config import TargetSettings, problem_at
from triosmtp.config.types.target_address import TargetAddress
from triosmtp.delivery import SecretFileError, TargetContext
from triosmtp.errors import ConfigError, Problem
from triosmtp.next_hop.hop_settings import HopAddress, HopSettings, HopTimeouts
from triosmtp.next_hop.next_hop import NextHop
from triosmtp.tls.client_context import ClientTLSSettings
from triosmtp.tls.settings import MaterialError

__all__ = ["hop_settings_of", "make_next_hop"]


def make_next_hop(target: TargetSettings, context: TargetContext) -> NextHop:
    """Return the delivery of ``target``, after a check of its files.  Blocks.

    :raises ConfigError: with a problem for each file that cannot be used.
    """
    settings = hop_settings_of(target)
    if not settings.ehlo_hostname:
        settings = evolve(settings, ehlo_hostname=context.hostname)
    delivery = NextHop(settings, context)
    problems: list[Problem] = []
    try:
        delivery.connector.check_tls()
    except MaterialError as error:
        problems += [_problem(target, each) for each in error.every]
    try:
        delivery.connector.check_password()
    except SecretFileError as error:
        problems.append(problem_at(target.settings, "auth_password_file", str(error)))
    if problems:
        raise ConfigError(problems)
    return delivery


def _problem(target: TargetSettings, error: MaterialError) -> Problem:
    subject = "" if error.path is None else f'"{error.path}": '
    return problem_at(target.settings, error.option.lower(), f"{subject}{error.reason}")


def hop_settings_of(target: TargetSettings) -> HopSettings:
    """Return the settings of a hop by the options of its Delivery, or their defaults."""
    options = target.settings
    return HopSettings(
        name=target.name,
        addresses=tuple(_address(target, each) for each in target.addresses),
        tls_verify=options.tls_verify,
        tls_fingerprints=tuple((each.kind, each.value) for each in options.tls_fingerprints),
        tls_files=ClientTLSSettings(
            ca=options.tls_ca,
            certificate=next(iter(options.tls_certificate), None),
            key=next(iter(options.tls_key), None),
            ciphers=options.tls_ciphers,
            protocols=options.tls_protocols,
        ),
        ehlo_hostname=options.ehlo_hostname or "",
        timeouts=HopTimeouts(
            connect=options.connect_timeout,
            ehlo=options.ehlo_timeout,
            mail=options.mailfrom_timeout,
            rcpt=options.rcptto_timeout,
            body=options.body_timeout,
            idle=options.idle_timeout,
        ),
        max_connections=options.max_outbound_connections,
        max_deliveries=options.max_deliveries_per_connection,
        xclient=options.xclient,
        auth_user=options.auth_user or "",
        auth_password_file=options.auth_password_file,
    )


def _address(target: TargetSettings, address: TargetAddress) -> HopAddress:
    return HopAddress(
        path=address.path,
        host=address.host,
        port=address.port,
        lmtp=address.scheme == "lmtp",
        implicit_tls=address.scheme == "smtps",
        tls=target.tls_mode(address),
        tls_name=target.tls_name(address),
    )
