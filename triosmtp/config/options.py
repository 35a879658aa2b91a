"""The one option table: every option with its name, type, default, scopes and a sentence that documents it.

:class:`Settings` is the table.  Each field is an option, its metadata an :class:`Option`; checks, ``config options``,
``config eval`` and the reference page all read it here.  A field's name is the option's name in lower case.
"""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
from attrs import frozen

from triosmtp.config.option import (
    CONTROL,
    GLOBAL,
    LISTENERS,
    NOT_GLOBAL,
    PATHWAY_GROUP,
    PATHWAY_SCOPE,
    PEER,
    POLICY,
    WITH_POLICY,
    WITH_SERVER_NAME,
    Option,
    option,
)
from triosmtp.config.server_name import ServerName
from triosmtp.config.source import Place
from triosmtp.config.specification import BANNER, DELIVERY, EXTENSIONS, FALLBACK_PHASES, PATHWAY, POLICIES, REPLY_421
from triosmtp.config.tls_value import CIPHERS, DEPTH, FILES, PROTOCOLS, RATE, RELAY_CLIENTS, RelayClient
from triosmtp.config.value import (
    BOOLEAN,
    DOMAIN,
    DOMAIN_PATTERNS,
    FILE_MODE,
    HOSTNAME,
    LIMIT,
    NETWORKS,
    PATH,
    SECONDS,
    VARIABLES,
    Network,
    choice,
)
from triosmtp.errors import Position, Problem

__all__ = ["OPTIONS", "Option", "Settings", "problem_at"]

VerifyMode: TypeAlias = Literal["none", "optional", "require"]
InjectionPolicy: TypeAlias = Literal["reject", "ignore", "allow"]
LoneLF: TypeAlias = Literal["ignore", "fix", "pedantic"]
Fallback: TypeAlias = Literal["tempfail", "continue", "reject"]

_VERIFY_MODES: tuple[VerifyMode, ...] = ("none", "optional", "require")
_INJECTION_POLICIES: tuple[InjectionPolicy, ...] = ("reject", "ignore", "allow")
_FALLBACKS: tuple[Fallback, ...] = ("tempfail", "continue", "reject")
_LONE_LF: tuple[LoneLF, ...] = ("ignore", "fix", "pedantic")


@frozen(slots=True, kw_only=True)
class Settings:
    """The value of every option, as it is in force for one connection.  A value: swapped whole, never changed."""

    places: Mapping[str, Place] = attrs.field(factory=dict, eq=False, repr=False)
    """Field name to where the value in force was set; what is missing is at its default."""

    # The listening socket

    enable: bool = option(
        "Enable",
        BOOLEAN,
        True,
        "Whether the socket is opened; false on the listener or on the Listen leaves it unbound.",
        scopes=LISTENERS,
    )
    file_mode: int = option(
        "File_Mode",
        FILE_MODE,
        0o660,
        "Mode of a Unix socket, in octal with a leading 0.",
        scopes=(*WITH_POLICY, *CONTROL),
        idle_in=(PEER,),
    )
    listen_backlog: int = option(
        "Listen_Backlog",
        LIMIT,
        500,
        "Connections that the kernel queues until they are accepted.",
        scopes=WITH_POLICY,
        idle_in=(PEER,),
    )
    tcp_recv_buffer_size: int = option(
        "TCP_Recv_Buffer_Size", LIMIT, 0, "Receive buffer of a socket in bytes; 0: the kernel decides.", idle_in=(PEER,)
    )
    tcp_send_buffer_size: int = option(
        "TCP_Send_Buffer_Size", LIMIT, 0, "Send buffer of a socket in bytes; 0: the kernel decides.", idle_in=(PEER,)
    )
    disable_nagle_algorithm: bool = option(
        "Disable_Nagle_Algorithm", BOOLEAN, True, "Whether replies are sent at once (TCP_NODELAY).", idle_in=(PEER,)
    )

    # What a connection is part of

    pathway: str | None = option(
        "Pathway",
        PATHWAY,
        None,
        "The Pathway whose options stand behind those of the listener, and before the global ones.",
        idle_in=(PATHWAY_SCOPE, PATHWAY_GROUP),
    )
    context: Mapping[str, str] = option(
        "Context", VARIABLES, {}, "Variables that every connection begins with; tls and tls_… cannot be set."
    )

    # TLS

    tls_certificate: tuple[Path, ...] = option(
        "TLS_Certificate",
        FILES,
        (),
        "PEM file: the server's certificate, then its chain; may hold the key too. A list serves several, such as RSA "
        "and ECDSA, side by side. none un-sets an inherited one.",
        scopes=WITH_SERVER_NAME,
    )
    tls_key: tuple[Path, ...] = option(
        "TLS_Key",
        FILES,
        (),
        "PEM file: the private key; one for each file of TLS_Certificate, in the same order. none, or unset, where "
        "each of those holds its own.",
        scopes=WITH_SERVER_NAME,
    )
    tls_key_password_file: tuple[Path, ...] = option(
        "TLS_Key_Password_File",
        FILES,
        (),
        "File that holds the password of the private key, and nothing else; one for all keys, or one for each.",
        scopes=WITH_SERVER_NAME,
    )
    tls_ocsp_response: tuple[Path, ...] = option(
        "TLS_OCSP_Response",
        FILES,
        (),
        "DER file: the OCSP response that is stapled; one for each file of TLS_Certificate, in the same order.",
        scopes=WITH_SERVER_NAME,
    )
    tls_protocols: tuple[str, ...] = option(
        "TLS_Protocols",
        PROTOCOLS,
        ("TLSv1.2", "TLSv1.3"),
        "Versions of TLS: +base[:+-name…] of ALL (1.2 and 1.3), TLSv1.0, TLSv1.1, TLSv1.2, TLSv1.3; SSLv2 and SSLv3 "
        "can be removed, never added. 1.0 and 1.1 lower OpenSSL's security level to 0.",
        scopes=WITH_POLICY,
    )
    tls_ciphers: str = option(
        "TLS_Ciphers",
        CIPHERS,
        "DEFAULT",
        "OpenSSL cipher list; names that begin with TLS_ select TLS 1.3 suites.",
        scopes=WITH_POLICY,
    )
    tls_dhparams_file: Path | None = option(
        "TLS_DHParams_File",
        PATH,
        None,
        "PEM file: Diffie-Hellman parameters for DHE suites; unset: groups of RFC 7919, by the strength of the key.",
        scopes=(GLOBAL,),
    )
    tls_enable_dhe_ciphers: bool = option(
        "TLS_Enable_DHE_Ciphers", BOOLEAN, True, "Whether DHE suites are offered.", scopes=(GLOBAL,)
    )
    tls_allow_renegotiation: bool = option(
        "TLS_Allow_Renegotiation",
        BOOLEAN,
        False,
        "Whether a client may renegotiate TLS 1.2: a known denial of service.",
    )
    tls_client_ca: Path | None = option(
        "TLS_Client_CA",
        PATH,
        None,
        "PEM bundle of the authorities that client certificates are verified against; without it none is asked for, "
        "unless TLS_Relay_Clients lists fingerprints.",
        scopes=WITH_POLICY,
    )
    tls_client_crl: tuple[Path, ...] = option(
        "TLS_Client_CRL",
        FILES,
        (),
        "PEM file, or a list of them: the certificates that the authorities of TLS_Client_CA have revoked.",
        scopes=WITH_POLICY,
    )
    tls_send_client_ca_names: bool = option(
        "TLS_Send_Client_CA_Names",
        BOOLEAN,
        True,
        "Whether the names of the authorities in TLS_Client_CA are sent to the client, which may choose by them.",
        scopes=WITH_POLICY,
    )
    tls_verify_depth: int = option(
        "TLS_Verify_Depth",
        DEPTH,
        9,
        "Intermediate certificates that may stand between a client certificate and its authority.",
        scopes=WITH_POLICY,
    )
    tls_verify_mode: VerifyMode | None = option(
        "TLS_Verify_Mode",
        choice(_VERIFY_MODES),
        None,
        "Client certificates: none asks for none, optional (as unset) verifies what is presented, "
        "require demands one to be presented. A failed verification never ends the session: policy decides.",
        scopes=WITH_POLICY,
    )
    use_ssl: bool = option(
        "Use_SSL", BOOLEAN, False, "TLS from the first byte (SMTPS), in place of STARTTLS.", scopes=NOT_GLOBAL
    )
    starttls_injection_policy: InjectionPolicy = option(
        "Starttls_Injection_Policy",
        choice(_INJECTION_POLICIES),
        "reject",
        "Bytes that come after STARTTLS and before the handshake: reject drops the connection, ignore throws them "
        "away, allow takes them as sent before TLS.",
        scopes=NOT_GLOBAL,
    )
    tls_verified_peer_can_relay: bool = option(
        "TLS_Verified_Peer_Can_Relay",
        BOOLEAN,
        False,
        "Whether a client whose certificate verified may relay; TLS_Relay_Clients narrows it.",
        scopes=NOT_GLOBAL,
    )
    tls_relay_clients: tuple[RelayClient, ...] = option(
        "TLS_Relay_Clients",
        RELAY_CLIENTS,
        (),
        "Which clients TLS_Verified_Peer_Can_Relay holds for: sha256: and spki: fingerprints of a certificate or its "
        "key, verified or not; dns: and email: names in a certificate that verified.",
    )
    tls_handshake_timeout: float = option(
        "TLS_Handshake_Timeout", SECONDS, 30.0, "Seconds within which a TLS handshake must be done.", scopes=WITH_POLICY
    )
    tls_handshakes_per_peer: tuple[int, float] | None = option(
        "TLS_Handshakes_Per_Peer",
        RATE,
        None,
        'Handshakes from one address, as "n/seconds"; beyond them 454, or under Use_SSL the connection is closed.',
    )
    tls_handshakes_max: int = option(
        "TLS_Handshakes_Max",
        LIMIT,
        500,
        "Handshakes under way at once on all Listens together; beyond them 454, or under Use_SSL the connection is "
        "closed. 0: unlimited.",
        scopes=(GLOBAL,),
    )

    tls_watch: bool = option(
        "TLS_Watch",
        BOOLEAN,
        True,
        "Whether the files that TLS is made of are watched, and taken when they change.",
        scopes=(GLOBAL,),
    )

    # The dialogue

    smtp_extensions: tuple[str, ...] = option(
        "SMTP_Extensions",
        EXTENSIONS,
        ("ENHANCEDSTATUSCODES",),
        "Extensions that are offered beside PIPELINING, 8BITMIME, SIZE and SMTPUTF8: ENHANCEDSTATUSCODES, STARTTLS.",
    )
    banner_hostname: str | None = option(
        "Banner_Hostname", HOSTNAME, None, "Host name in the banner and in replies; unset: that of the machine."
    )
    static_banner: str | None = option(
        "Static_Banner", BANNER, None, "The whole banner, its 220 included, in place of the usual one."
    )
    received_hostname: str | None = option(
        "Received_Hostname", HOSTNAME, None, "Host name in Received headers; unset: that of the banner."
    )
    require_ehlo: bool = option("Require_EHLO", BOOLEAN, False, "Whether EHLO or HELO must come before MAIL.")
    allow_null_envelope_sender: bool = option(
        "Allow_NULL_Envelope_Sender", BOOLEAN, True, "Whether MAIL FROM:<> is accepted, as bounces need it."
    )
    allow_ip_literal: bool = option(
        "Allow_IP_Literal", BOOLEAN, True, "Whether an address may have an IP literal in place of its domain."
    )
    allow_trailing_whitespace_in_commands: bool = option(
        "Allow_Trailing_Whitespace_In_Commands", BOOLEAN, False, "Whether white space may end a command line."
    )
    domain_for_unqualified_sender_address: str | None = option(
        "Domain_For_Unqualified_Sender_Address",
        DOMAIN,
        None,
        "Domain that a sender without one is given; unset: such a sender is refused.",
    )
    domain_for_unqualified_recipient_addresses: str | None = option(
        "Domain_For_Unqualified_Recipient_Addresses",
        DOMAIN,
        None,
        "Domain that a recipient without one is given; unset: such a recipient is refused, postmaster apart.",
    )
    rfc2822_lone_lf_in_headers: LoneLF = option(
        "RFC2822_Lone_LF_In_Headers",
        choice(_LONE_LF),
        "pedantic",
        "A bare CR or LF in the headers of a message: ignore keeps it, fix makes it CRLF, pedantic refuses it.",
    )
    rfc2822_lone_lf_in_body: LoneLF = option(
        "RFC2822_Lone_LF_In_Body",
        choice(_LONE_LF),
        "pedantic",
        "A bare CR or LF in the body of a message: ignore keeps it, fix makes it CRLF, pedantic refuses it.",
    )
    rfc2822_trace_headers: bool = option(
        "RFC2822_Trace_Headers", BOOLEAN, True, "Whether a Received header is added to each message."
    )

    reconfig_message: str = option(
        "Reconfig_Message",
        REPLY_421,
        "4.3.2 Reconfiguration in progress",
        "What is said behind 421 at the next MAIL or RSET of a connection that began before a reload.",
    )

    # Limits

    idle_time: float = option(
        "Idle_Time", SECONDS, 300.0, "Seconds without a byte from the client after which the connection is closed."
    )
    listener_sessions: int = option(
        "Listener_Sessions", LIMIT, 0, "Sessions at once on one Listen; beyond it 421. 0: unlimited."
    )
    service_sessions: int = option(
        "Service_Sessions", LIMIT, 0, "Sessions at once on all Listens together; beyond it 421. 0: unlimited."
    )
    max_message_size: int = option(
        "Max_Message_Size", LIMIT, 52428800, "Size of a message in bytes; beyond it 552. 0: unlimited."
    )
    max_receptions_per_connection: int = option(
        "Max_Receptions_Per_Connection", LIMIT, 0, "Messages in one connection; beyond it 421. 0: unlimited."
    )
    max_recipients_per_connection: int = option(
        "Max_Recipients_Per_Connection", LIMIT, 0, "Recipients in one connection; beyond it 421. 0: unlimited."
    )
    max_recipients_per_message: int = option(
        "Max_Recipients_Per_Message", LIMIT, 1000, "Recipients of one message; beyond it 452. 0: unlimited."
    )
    max_command_errors: int = option(
        "Max_Command_Errors", LIMIT, 20, "Bad commands in one connection; beyond it 421. 0: unlimited."
    )

    # Who may relay

    relay_domains: tuple[str, ...] = option(
        "Relay_Domains",
        DOMAIN_PATTERNS,
        (),
        "Domains that mail is accepted for: example.org itself, *.example.org all below it, *example.org both.",
    )
    relay_hosts: tuple[Network, ...] = option(
        "Relay_Hosts", NETWORKS, (), "Addresses and CIDR blocks of the clients that may relay; IPv6 without brackets."
    )
    open_relay: bool = option(
        "Open_Relay", BOOLEAN, False, "Whether whoever this holds for may relay: keep it to a Peer that is trusted."
    )
    relay_for_sending_domains: tuple[str, ...] = option(
        "Relay_For_Sending_Domains",
        DOMAIN_PATTERNS,
        (),
        "Domains whose senders may relay. Senders are the client's claim: keep it to a Peer that is trusted.",
    )

    # Policy and delivery

    policy: tuple[str, ...] = option(
        "Policy",
        POLICIES,
        (),
        "Policies that are asked at each phase, in this order: python:package.module:Name, "
        "importable from the configuration's folder too; websocket:group, whose deciders come to a Policy_Listener.",
    )
    policy_timeout: float = option(
        "Policy_Timeout", SECONDS, 5.0, "Seconds that deciders of a websocket: policy have for each decision."
    )
    policy_fallback: Fallback = option(
        "Policy_Fallback",
        choice(_FALLBACKS),
        "tempfail",
        "What is done where a websocket: policy gives no answer: tempfail (451), continue, or reject (550).",
    )
    policy_fallback_phases: Mapping[str, Fallback] = option(
        "Policy_Fallback_Phases",
        FALLBACK_PHASES,
        {},
        "Policy_Fallback at single phases, as [ connect = continue ].",
    )
    token_file: Path | None = option(
        "Token_File",
        PATH,
        None,
        "File that holds the token of policy clients, and nothing else: who shows it may listen and decide.",
        scopes=POLICY,
    )
    admin_token_file: Path | None = option(
        "Admin_Token_File",
        PATH,
        None,
        "File that holds the token of policy clients that may also close sessions, set variables and reload.",
        scopes=POLICY,
    )
    deliver_to: str | None = option(
        "Deliver_To",
        DELIVERY,
        None,
        "Where accepted mail goes: maildir:/path, or discard:. Unset: a Maildir in the state folder.",
    )
    spool_directory: Path | None = option(
        "Spool_Directory", PATH, None, "Folder that holds the bodies of messages while they arrive."
    )

    @property
    def origins(self) -> dict[str, Position]:
        """Field name to the position where the value in force was set; what is missing is at its default."""
        return {name: place.position for name, place in self.places.items()}

    @property
    def offers_starttls(self) -> bool:
        """Whether STARTTLS is offered: asked for, with a certificate in force, and TLS not on from the first byte."""
        return "STARTTLS" in self.smtp_extensions and bool(self.tls_certificate) and not self.use_ssl

    @property
    def asks_by_fingerprint(self) -> bool:
        """Whether a client may relay by a fingerprint: a certificate is then asked for without TLS_Client_CA too."""
        return self.tls_verified_peer_can_relay and any(each.by_fingerprint for each in self.tls_relay_clients)


def _rows() -> dict[str, Option]:
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(Settings)
    return {field.name: field.metadata["option"] for field in fields if "option" in field.metadata}


OPTIONS: Mapping[str, Option] = _rows()
"""The table, by field name."""


def problem_at(settings: Settings | ServerName, field: str, message: str, severity: str = "error") -> Problem:
    """Give a problem with the value of ``field`` that stands where the value was set, if it is not the default."""
    place = settings.places.get(field)
    name = OPTIONS[field].name
    text = message if message.startswith(name) else f"{name}: {message}"
    return Problem(severity, text) if place is None else place.problem(severity, text)
