"""What is had before the server begins, by a process that may do more than the server shall: its TLS contexts."""

from collections.abc import Mapping
from typing import TypeAlias

from triosmtp.config import Config, ServerName, Settings
from triosmtp.errors import ConfigError, Problem, Severity
from triosmtp.server.profile import material_problem, material_problems, tls_settings
from triosmtp.tls import ContextStore, TLSSettings
from triosmtp.tls.context_store import renew

__all__ = ["TLSUsers", "preload_contexts", "tls_users"]

TLSUsers: TypeAlias = Mapping[TLSSettings, tuple[Settings, tuple[ServerName, ...]]]
"""Settings of TLS contexts, with the options that ask for each."""


def tls_users(config: Config) -> TLSUsers:
    """Give the settings of every TLS context that connections of ``config`` can need.  Makes nothing, reads nothing."""
    users: dict[TLSSettings, tuple[Settings, tuple[ServerName, ...]]] = {}
    for listen in config.listens:
        names = config.server_names(listen)
        for settings in config.variants(listen):
            tls = tls_settings(settings, names)
            if tls is not None:
                users.setdefault(tls, (settings, names))
    for listen in config.policy_listens:
        settings = config.resolve(listen, None)
        tls = tls_settings(settings)
        if tls is not None:
            users.setdefault(tls, (settings, ()))
    return users


def preload_contexts(users: TLSUsers) -> tuple[ContextStore, list[Problem]]:
    """Read certificates and keys, and build the contexts of ``users``; give the warnings about them, too.  Blocks.

    :raises ConfigError: naming each file that cannot be used, with its place in the configuration.
    """
    contexts = ContextStore()
    renewal = renew(contexts, users)
    problems = [
        found
        for settings, problem in renewal.problems.items()
        for found in material_problems(*users[settings], problem.error)
    ]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    contexts.replace(renewal.contexts)
    warnings = [
        material_problem(*users[settings], warning, Severity.WARNING)
        for settings, found in renewal.renewed.items()
        for warning in found
    ]
    return contexts, list(dict.fromkeys(warnings))
