"""The requirements of each Listen of a Policy_Listener: TLS, tokens, and the files that hold the tokens."""

import stat
from pathlib import Path
from typing import Final

import attrs
from attrs import frozen

from triosmtp.config import Config, Listen, Settings, problem_at
from triosmtp.errors import ConfigError, Problem, Severity
from triosmtp.filesystem import open_regular
from triosmtp.server.tls_contexts import tls_settings
from triosmtp.tls import TLSSettings

__all__ = ["PolicyEndpoint", "read_policy_endpoints", "read_token", "token_warnings"]

_MIN_TOKEN_SIZE: Final = 16
_MAX_TOKEN_SIZE: Final = 4096


@frozen(slots=True)
class PolicyEndpoint:
    """The requirements of one Listen for policy clients."""

    listen: Listen
    settings: Settings
    tls: TLSSettings | None
    token: str | None = attrs.field(repr=False)
    admin_token: str | None = attrs.field(repr=False)


def read_policy_endpoints(config: Config) -> dict[object, PolicyEndpoint]:
    """Read the tokens, and return each endpoint by the key of its Listen.  Blocking.

    :raises ConfigError: with a problem for each token file that cannot be used.
    """
    problems: list[Problem] = []
    endpoints = {}
    for listen in config.policy_listens:
        settings = config.resolve(listen, None)
        tokens: dict[str, str | None] = {}
        for field in ("token_file", "admin_token_file"):
            try:
                tokens[field] = read_token(settings, field)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                problems.append(problem_at(settings, field, f"{getattr(settings, field)}: {reason}"))
        token, admin_token = tokens.get("token_file"), tokens.get("admin_token_file")
        endpoints[listen.key] = PolicyEndpoint(listen, settings, tls_settings(settings), token, admin_token)
    if problems:
        raise ConfigError(problems)
    return endpoints


def read_token(settings: Settings, field: str) -> str | None:
    """Return the token in the file that the option ``field`` names, or None if the option is not set.

    :raises OSError: if the file cannot be read.
    :raises ValueError: if the file does not contain exactly one token.
    """
    path: Path | None = getattr(settings, field)
    if path is None:
        return None
    with open_regular(path) as file:
        token = file.read(_MAX_TOKEN_SIZE + 2).strip()  # the longest token with its line end
    if not (token.isascii() and token.decode("ascii").isprintable() and b" " not in token):
        raise ValueError("expected one token of printable ASCII characters without blanks")
    if not _MIN_TOKEN_SIZE <= len(token) <= _MAX_TOKEN_SIZE:
        raise ValueError(f"expected a token of {_MIN_TOKEN_SIZE} to {_MAX_TOKEN_SIZE} characters, found {len(token)}")
    return token.decode("ascii")


def token_warnings(config: Config) -> list[Problem]:
    """Return a warning for each token file that other users can read or change."""
    problems = []
    for settings in (config.resolve(listen, None) for listen in (*config.policy_listens, *config.status_listens)):
        for field in ("token_file", "admin_token_file"):
            path: Path | None = getattr(settings, field)
            if path is None:
                continue
            try:
                mode = path.stat().st_mode
            except OSError:
                continue  # read_token() reports it as an error
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                text = f"{path}: DANGER: others can read or change it (mode {stat.S_IMODE(mode):04o}); chmod 600 it"
                problems.append(problem_at(settings, field, text, Severity.WARNING))
    return list(dict.fromkeys(problems))
