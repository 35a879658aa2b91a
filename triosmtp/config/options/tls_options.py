"""Options of TLS."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from pathlib import Path
from typing import Literal, TypeAlias

from attrs import frozen

from triosmtp.config.option import (
    GLOBAL,
    NOT_GLOBAL,
    WITH_DELIVERY,
    WITH_DELIVERY_AND_SERVER_NAME,
    WITH_POLICY,
    WITH_SERVER_NAME,
    option,
)
from triosmtp.config.types.option_type import BOOLEAN, DOMAIN_PATTERNS, LIMIT, PATH, SECONDS, choice
from triosmtp.config.types.tls_types import (
    CIPHERS,
    DEPTH,
    FILES,
    GROUPS,
    PROTOCOLS,
    RATE,
    RELAY_CLIENTS,
    SUITES,
    RelayClient,
)

__all__ = ["TLSOptions"]

VerifyMode: TypeAlias = Literal["none", "optional", "require"]
InjectionPolicy: TypeAlias = Literal["reject", "ignore", "allow"]
ClientPurpose: TypeAlias = Literal["client", "client-or-server"]

_VERIFY_MODES: tuple[VerifyMode, ...] = ("none", "optional", "require")
_CLIENT_PURPOSES: tuple[ClientPurpose, ...] = ("client", "client-or-server")
_INJECTION_POLICIES: tuple[InjectionPolicy, ...] = ("reject", "ignore", "allow")


@frozen(slots=False, kw_only=True)
class TLSOptions:
    """TLS."""

    tls_certificate: tuple[Path, ...] = option(
        "TLS_Certificate",
        FILES,
        (),
        "PEM file: the server's certificate, then its chain; it may hold the key too. A list serves several, such as "
        "RSA and ECDSA, side by side. none removes an inherited one.",
        scopes=WITH_DELIVERY_AND_SERVER_NAME,
    )
    tls_key: tuple[Path, ...] = option(
        "TLS_Key",
        FILES,
        (),
        "PEM file: the private key; one for each file of TLS_Certificate, in the same order. none, or unset, if each "
        "of those holds its own.",
        scopes=WITH_DELIVERY_AND_SERVER_NAME,
    )
    tls_key_password_file: tuple[Path, ...] = option(
        "TLS_Key_Password_File",
        FILES,
        (),
        "File that contains only the password of the private key; one for all keys, or one for each.",
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
        scopes=WITH_DELIVERY,
    )
    tls_ciphers: str = option(
        "TLS_Ciphers",
        CIPHERS,
        "DEFAULT",
        "OpenSSL cipher list; names that begin with TLS_ select TLS 1.3 suites.",
        scopes=WITH_DELIVERY,
    )
    tlsv13_ciphersuites: str | None = option(
        "TLSv13_Ciphersuites",
        SUITES,
        None,
        "Suites of TLS 1.3, separated by colons; unset: those that begin with TLS_ in TLS_Ciphers, or OpenSSL's own.",
        scopes=WITH_POLICY,
    )
    tls_ec_curve_names: tuple[str, ...] = option(
        "TLS_EC_Curve_Names",
        GROUPS,
        (),
        "Groups of key exchange, separated by colons, the preferred one first, with OpenSSL's names (X25519, P-256, "
        "X25519MLKEM768, …); unset: OpenSSL's own. Under TLS 1.2, keys of clients must be on one of these curves.",
        scopes=(GLOBAL,),
    )
    tls_dhparams_file: Path | None = option(
        "TLS_DHParams_File",
        PATH,
        None,
        "PEM file: Diffie-Hellman parameters for DHE suites; unset: groups of RFC 7919, chosen by the strength of the "
        "key.",
        scopes=(GLOBAL,),
    )
    tls_enable_dhe_ciphers: bool = option(
        "TLS_Enable_DHE_Ciphers", BOOLEAN, True, "Whether DHE suites are offered.", scopes=(GLOBAL,)
    )
    tls_allow_renegotiation: bool = option(
        "TLS_Allow_Renegotiation",
        BOOLEAN,
        False,
        "Whether a client may renegotiate TLS 1.2: a known denial of service. It may do so 10 times in a connection.",
    )
    tls_client_ca: Path | None = option(
        "TLS_Client_CA",
        PATH,
        None,
        "PEM bundle of the authorities that client certificates are verified against. Without it none is requested, "
        "unless TLS_Relay_Clients lists fingerprints that grant a right.",
        scopes=WITH_POLICY,
    )
    tls_client_crl: tuple[Path, ...] = option(
        "TLS_Client_CRL",
        FILES,
        (),
        "PEM file, or a list of them: the certificates that the authorities of TLS_Client_CA have revoked.",
        scopes=WITH_POLICY,
    )
    tls_client_purpose: ClientPurpose = option(
        "TLS_Client_Purpose",
        choice(_CLIENT_PURPOSES),
        "client",
        "The purpose of client certificates: client, or client-or-server, which also verifies those for servers "
        "(serverAuth without clientAuth). Public authorities issue only the latter now.",
        scopes=WITH_POLICY,
    )
    tls_send_client_ca_names: bool = option(
        "TLS_Send_Client_CA_Names",
        BOOLEAN,
        True,
        "Whether the names of the authorities in TLS_Client_CA are sent to the client, which may use them to choose a "
        "certificate.",
        scopes=WITH_POLICY,
    )
    tls_verify_depth: int = option(
        "TLS_Verify_Depth",
        DEPTH,
        9,
        "Maximum number of intermediate certificates between a client certificate and its authority.",
        scopes=WITH_POLICY,
    )
    tls_verify_mode: VerifyMode | None = option(
        "TLS_Verify_Mode",
        choice(_VERIFY_MODES),
        None,
        "Client certificates: none requests none, optional (as unset) verifies a presented one, require demands that "
        "one is presented over TLS (Require_TLS refuses plaintext). A failed verification never ends the session: "
        "policy decides.",
        scopes=WITH_POLICY,
    )
    use_ssl: bool = option(
        "Use_SSL", BOOLEAN, False, "TLS from the first byte (SMTPS), instead of STARTTLS.", scopes=NOT_GLOBAL
    )
    starttls_injection_policy: InjectionPolicy = option(
        "Starttls_Injection_Policy",
        choice(_INJECTION_POLICIES),
        "reject",
        "Bytes that arrive after STARTTLS and before the handshake: reject closes the connection, ignore discards "
        "them, allow accepts them as sent before TLS.",
        scopes=NOT_GLOBAL,
    )
    tls_verified_peer_can_relay: bool = option(
        "TLS_Verified_Peer_Can_Relay",
        BOOLEAN,
        False,
        "Whether a client whose certificate verified may relay; TLS_Relay_Clients restricts it.",
        scopes=NOT_GLOBAL,
    )
    tls_relay_clients: tuple[RelayClient, ...] = option(
        "TLS_Relay_Clients",
        RELAY_CLIENTS,
        (),
        "The clients to which TLS_Verified_Peer_Can_Relay applies: sha256: and spki: fingerprints of a certificate or "
        "its key, verified or not; dns: and email: names in a certificate that verified. The fingerprints also count "
        "for TLS_Require_Verified and TLS_Require_Verified_From.",
    )
    tls_require_verified: bool = option(
        "TLS_Require_Verified",
        BOOLEAN,
        False,
        "Whether MAIL needs a client certificate that verified, or one that TLS_Relay_Clients lists by a fingerprint: "
        "530 without TLS, else 550. It also applies after AUTH and to <>, and policy cannot waive it; a Peer makes "
        "exceptions.",
    )
    tls_require_verified_from: tuple[str, ...] = option(
        "TLS_Require_Verified_From",
        DOMAIN_PATTERNS,
        (),
        "Domains whose senders need a certificate as for TLS_Require_Verified. example.org, *.example.org or "
        "*example.org.",
    )
    tls_handshake_timeout: float = option(
        "TLS_Handshake_Timeout", SECONDS, 30.0, "Seconds within which a TLS handshake must finish.", scopes=WITH_POLICY
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
        "Handshakes in progress on all Listens together; beyond it 454, or under Use_SSL the connection is closed. "
        "One address has a tenth of them, and at least 10. 0: unlimited.",
        scopes=(GLOBAL,),
    )

    tls_watch: bool = option(
        "TLS_Watch",
        BOOLEAN,
        True,
        "Whether TLS files are watched, and loaded when they change.",
        scopes=(GLOBAL,),
    )
