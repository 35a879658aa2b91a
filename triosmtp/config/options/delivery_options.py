"""Options of delivery: the targets of accepted mail, and the options of a Delivery scope."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from pathlib import Path
from typing import Literal, TypeAlias

from attrs import frozen

from triosmtp.config.option import CONSUMER, DELIVERY, DOMAIN_SCOPE, FILTER, WITH_DOMAIN, option
from triosmtp.config.types.delivery_types import DELIVERY_NAME, FINGERPRINTS, MONITORS, TARGETS
from triosmtp.config.types.option_type import BOOLEAN, HOSTNAME, LIMIT, PATH, SECONDS, TEXT, choice
from triosmtp.config.types.target_address import expected_targets
from triosmtp.config.types.tls_types import RelayClient

__all__ = ["DeliveryOptions"]

TLSMode: TypeAlias = Literal["no", "ifavailable", "required"]
TLSVerify: TypeAlias = Literal["no", "ca", "host"]

_TLS_MODES: tuple[TLSMode, ...] = ("no", "ifavailable", "required")
_TLS_VERIFY: tuple[TLSVerify, ...] = ("no", "ca", "host")
_HERE = (DELIVERY,)


@frozen(slots=False, kw_only=True)
class DeliveryOptions:
    """Delivery."""

    deliver_to: tuple[str, ...] = option(
        "Deliver_To",
        TARGETS,
        (),
        f"The target of accepted mail: {expected_targets()}. A function is async and has one argument; its module may "
        "be in the configuration's folder. A list: up to four targets that each receive a copy, in this order; in a "
        "Delivery, addresses of one scheme that are tried in order. Unset: a Maildir in the state folder.",
        scopes=(*WITH_DOMAIN, DELIVERY, CONSUMER),
    )
    hold_to: str | None = option(
        "Hold_To",
        DELIVERY_NAME,
        None,
        "The Delivery for messages that the filter holds (HOLD) or quarantines; unset: they are answered 451 4.3.5.",
        scopes=(FILTER,),
    )
    verify_recipients: bool = option(
        "Verify_Recipients",
        BOOLEAN,
        True,
        "Whether the target is asked for each recipient at RCPT, if its protocol has that; otherwise after the body.",
        scopes=(DELIVERY, DOMAIN_SCOPE),
    )
    tls: TLSMode | None = option(
        "TLS",
        choice(_TLS_MODES),
        None,
        "Whether a connection to the target uses TLS: no, ifavailable or required. Unset: required, but no to "
        "loopback and to a Unix socket.",
        scopes=_HERE,
    )
    tls_ca: Path | None = option(
        "TLS_CA",
        PATH,
        None,
        "PEM bundle of the authorities that the target's certificate is verified by; unset: those of the system.",
        scopes=_HERE,
    )
    tls_verify: TLSVerify = option(
        "TLS_Verify",
        choice(_TLS_VERIFY),
        "host",
        "How the target's certificate is verified: host, by the authorities and its name; ca, by the authorities; no.",
        scopes=_HERE,
    )
    tls_name: str | None = option(
        "TLS_Name",
        HOSTNAME,
        None,
        "The name that the target's certificate must have; unset: the host of the address.",
        scopes=_HERE,
    )
    tls_fingerprints: tuple[RelayClient, ...] = option(
        "TLS_Fingerprints",
        FINGERPRINTS,
        (),
        "Fingerprints (sha256:… of the certificate, spki:… of its key), one of which the target's certificate must "
        "have; the authorities then do not matter.",
        scopes=_HERE,
    )
    ehlo_hostname: str | None = option(
        "EHLO_Hostname",
        HOSTNAME,
        None,
        "The name that is announced to the target in EHLO or LHLO; unset: the name of this host.",
        scopes=_HERE,
    )
    connect_timeout: float = option(
        "Connect_Timeout", SECONDS, 10.0, "Seconds for a connection to the target, TLS included.", scopes=_HERE
    )
    ehlo_timeout: float = option(
        "EHLO_Timeout", SECONDS, 60.0, "Seconds for the target's banner, and for its reply to EHLO.", scopes=_HERE
    )
    mailfrom_timeout: float = option(
        "MailFrom_Timeout", SECONDS, 60.0, "Seconds for the target's reply to MAIL.", scopes=_HERE
    )
    rcptto_timeout: float = option(
        "RcptTo_Timeout", SECONDS, 60.0, "Seconds for the target's reply to RCPT.", scopes=_HERE
    )
    body_timeout: float = option(
        "Body_Timeout",
        SECONDS,
        300.0,
        "Seconds for the message and the target's answer: of SMTP and LMTP from DATA on, of HTTP the whole request, "
        "of NATS the acknowledgement, 30 if unset.",
        scopes=_HERE,
    )
    idle_timeout: float = option(
        "Idle_Timeout", SECONDS, 30.0, "Seconds after which an idle connection to the target is closed.", scopes=_HERE
    )
    max_outbound_connections: int = option(
        "Max_Outbound_Connections",
        LIMIT,
        20,
        "Connections to the target at the same time, of all workers together. 0: unlimited.",
        scopes=_HERE,
    )
    max_deliveries_per_connection: int = option(
        "Max_Deliveries_Per_Connection",
        LIMIT,
        100,
        "Messages after which a connection to the target is closed. 0: unlimited.",
        scopes=_HERE,
    )
    xclient: bool = option(
        "XCLIENT",
        BOOLEAN,
        False,
        "Whether XCLIENT announces the address and the names of the client to the target, which must trust this host.",
        scopes=_HERE,
    )
    auth_user: str | None = option(
        "Auth_User", TEXT, None, "The user name for AUTH at the target; needs Auth_Password_File.", scopes=_HERE
    )
    auth_password_file: Path | None = option(
        "Auth_Password_File", PATH, None, "File that contains only the password for AUTH.", scopes=_HERE
    )
    secret_file: Path | None = option(
        "Secret_File",
        PATH,
        None,
        "File with the secret that signs requests of HTTP; a second line may hold the former secret.",
        scopes=_HERE,
    )
    credentials_file: Path | None = option(
        "Credentials_File", PATH, None, "File with the credentials for NATS, as its tools write it.", scopes=_HERE
    )
    delivery_grace: float = option(
        "Delivery_Grace",
        SECONDS,
        60.0,
        "Seconds for which a Listen's target may fail before new sessions receive 421 and /readyz is 503.",
        scopes=_HERE,
    )
    monitor: tuple[str, ...] = option(
        "Monitor",
        MONITORS,
        (),
        "Monitoring ports of the NATS servers, http://host:port, which say whether they sync always.",
        scopes=_HERE,
    )
