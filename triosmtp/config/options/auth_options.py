"""Options of AUTH: password files, mechanisms and limits."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from pathlib import Path

from attrs import frozen

from triosmtp.config.option import GLOBAL, option
from triosmtp.config.types.auth_parameters import (
    AUTH_PARAMETERS,
    AUTH_SERVICE,
    EXTERNAL_PARAMETERS,
    AuthParameters,
    ExternalParameters,
)
from triosmtp.config.types.option_type import BOOLEAN, LIMIT, PATH, SECONDS
from triosmtp.config.types.tls_types import RATE

__all__ = ["AuthOptions"]

_FORM = 'as [ uri = "file:///path" ] or digest:///path, with realm, stored_cleartext and log_authentication.'


@frozen(slots=False, kw_only=True)
class AuthOptions:
    """Authentication: stores, mechanisms and limits."""

    authplainparameters: AuthParameters | None = option(
        "AuthPlainParameters", AUTH_PARAMETERS, None, f"The store for AUTH PLAIN, {_FORM}"
    )
    authloginparameters: AuthParameters | None = option(
        "AuthLoginParameters",
        AUTH_PARAMETERS,
        None,
        "The store for AUTH LOGIN, in the same form; unset: the store of AUTH PLAIN.",
    )
    authcrammd5parameters: AuthParameters | None = option(
        "AuthCramMD5Parameters",
        AUTH_PARAMETERS,
        None,
        "The store for AUTH CRAM-MD5, in the same form: a file of clear text.",
    )
    authdigestmd5parameters: AuthParameters | None = option(
        "AuthDigestMD5Parameters",
        AUTH_PARAMETERS,
        None,
        "The store for AUTH DIGEST-MD5, in the same form: digest:///path, or a file of clear text.",
    )
    authscramparameters: AuthParameters | None = option(
        "AuthScramParameters",
        AUTH_PARAMETERS,
        None,
        "The store for AUTH SCRAM-SHA-256 and SCRAM-SHA-256-PLUS: SCRAM records, or clear text; unset: the store of "
        "AUTH PLAIN.",
    )
    authexternalparameters: ExternalParameters | None = option(
        "AuthExternalParameters",
        EXTERNAL_PARAMETERS,
        None,
        'The identity that a verified client certificate stands for, for AUTH EXTERNAL: [ map = "dns" ], email, '
        "subject_cn, or the path of a file of lines such as sha256:fingerprint user.",
    )
    auth_service: Path | None = option(
        "Auth_Service",
        AUTH_SERVICE,
        None,
        'The service that authenticates clients, instead of files: "dovecot:/run/dovecot/auth-client", a Unix socket '
        "of Dovecot. Mechanisms that SMTP_Extensions and the service both name are offered.",
    )
    allow_plaintext_auth: bool = option(
        "Allow_Plaintext_Auth",
        BOOLEAN,
        False,
        "Whether PLAIN and LOGIN, which send a readable password, are offered without TLS.",
    )
    always_allow: bool = option(
        "Always_Allow", BOOLEAN, False, "Whether every attempt to authenticate succeeds: for tests."
    )
    always_deny: bool = option(
        "Always_Deny", BOOLEAN, False, "Whether every attempt to authenticate fails; it overrides Always_Allow."
    )
    max_auth_failures: int = option(
        "Max_Auth_Failures",
        LIMIT,
        3,
        "Attempts to authenticate that may fail in one connection; the last one is answered 421. 0: unlimited.",
    )
    auth_failure_delay: float = option(
        "Auth_Failure_Delay",
        SECONDS,
        1.0,
        "Seconds that the reply to a failed attempt waits; twice that after the next, up to 8 times.",
    )
    auth_failure_rate_per_peer: tuple[int, float] | None = option(
        "Auth_Failure_Rate_Per_Peer",
        RATE,
        (20, 60.0),
        'Failed attempts to authenticate from one address, as "n/seconds"; beyond it AUTH is answered 454. Those of '
        "Relay_Hosts are not counted.",
    )
    mock_credentials_file: Path | None = option(
        "Mock_Credentials_File",
        PATH,
        None,
        "File of 32 random octets, from which the salts of unknown users are derived; the same file on all nodes. "
        "Unset: mock_credentials.key in the state folder, which the server creates.",
        scopes=(GLOBAL,),
        reloadable=False,
    )
