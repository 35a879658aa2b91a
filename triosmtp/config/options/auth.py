"""Who may authenticate, by what, and how often."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from attrs import frozen

from triosmtp.config.option import option
from triosmtp.config.types.auth_value import AUTH_PARAMETERS, EXTERNAL_PARAMETERS, AuthParameters, ExternalParameters
from triosmtp.config.types.tls_value import RATE
from triosmtp.config.types.value import BOOLEAN, LIMIT, SECONDS

__all__ = ["AuthOptions"]

_WHAT = 'as [ uri = "file:///path" ] or digest:///path, with realm, stored_cleartext and log_authentication.'


@frozen(slots=False, kw_only=True)
class AuthOptions:
    """Who may authenticate, by what, and how often."""

    authplainparameters: AuthParameters | None = option(
        "AuthPlainParameters", AUTH_PARAMETERS, None, f"What AUTH PLAIN checks against, {_WHAT}"
    )
    authloginparameters: AuthParameters | None = option(
        "AuthLoginParameters",
        AUTH_PARAMETERS,
        None,
        "What AUTH LOGIN checks against, likewise; unset: what AUTH PLAIN does.",
    )
    authcrammd5parameters: AuthParameters | None = option(
        "AuthCramMD5Parameters",
        AUTH_PARAMETERS,
        None,
        "What AUTH CRAM-MD5 checks against, likewise: a file of clear text.",
    )
    authdigestmd5parameters: AuthParameters | None = option(
        "AuthDigestMD5Parameters",
        AUTH_PARAMETERS,
        None,
        "What AUTH DIGEST-MD5 checks against, likewise: digest:///path, or a file of clear text.",
    )
    authscramparameters: AuthParameters | None = option(
        "AuthScramParameters",
        AUTH_PARAMETERS,
        None,
        "What AUTH SCRAM-SHA-256 and SCRAM-SHA-256-PLUS check against: SCRAM records, or clear text; unset: what AUTH "
        "PLAIN does.",
    )
    authexternalparameters: ExternalParameters | None = option(
        "AuthExternalParameters",
        EXTERNAL_PARAMETERS,
        None,
        'Who a client certificate that verified stands for, for AUTH EXTERNAL: [ map = "dns" ], email, subject_cn, or '
        "the path of a file of lines such as sha256:fingerprint user.",
    )
    allow_plaintext_auth: bool = option(
        "Allow_Plaintext_Auth",
        BOOLEAN,
        False,
        "Whether PLAIN and LOGIN, which send the password readable, are offered without TLS.",
    )
    always_allow: bool = option(
        "Always_Allow", BOOLEAN, False, "Whether every attempt to authenticate succeeds: for tests."
    )
    always_deny: bool = option(
        "Always_Deny", BOOLEAN, False, "Whether every attempt to authenticate fails; it wins over Always_Allow."
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
        "Seconds that the answer to a failed attempt waits; twice that after the next, up to 8 times.",
    )
    auth_failure_rate_per_peer: tuple[int, float] | None = option(
        "Auth_Failure_Rate_Per_Peer",
        RATE,
        (20, 60.0),
        'Attempts to authenticate of one address that may fail, as "n/seconds"; beyond it AUTH is answered 454. Those '
        "of Relay_Hosts are not counted.",
    )
