"""Read a configuration from text: its settings, the value of one option, its errors."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from triosmtp.config import OPTIONS, Config, Settings, parse_config
from triosmtp.errors import ConfigError

LISTENER = 'ESMTP_Listener { Listen ":25" { } }'


def read_settings(text: str) -> Settings:
    """Return the settings in force for Listen ":25" after ``text`` in the global scope."""
    config = parse_config(f"{text}\n{LISTENER}")
    return config.resolve(config.listens[0], None)


def read_option(name: str, text: str, folder: Path | None = None) -> object:
    """Return the value of option ``name`` that is set to ``text`` in a Listen, or in the global scope."""
    setting, listen = f"{name} = {text}", 'ESMTP_Listener { Listen ":25" { '
    is_global = OPTIONS[name.lower()].scopes == ("global",)
    config = parse_config(f"{setting} {listen} }} }}" if is_global else f"{listen} {setting} }} }}", folder=folder)
    return getattr(config.resolve(config.listens[0], None), name.lower())


def option_error(name: str, text: str) -> str:
    """Return the only error of a configuration in which option ``name`` is set to ``text``; it names the option."""
    with pytest.raises(ConfigError) as caught:
        read_option(name, text)
    (problem,) = caught.value.problems
    assert OPTIONS[name.lower()].name in problem.message
    return problem.message


def resolve_peer(config: Config, name: str, peer: str | None = None) -> Settings:
    """Return the settings for a connection from ``peer`` to the Listen with that name."""
    listen = config.find_listen(name)
    assert listen is not None
    return config.resolve(listen, None if peer is None else ip_address(peer))


def config_errors(text: str) -> str:
    """Return the errors of a configuration as ``triosmtp check`` prints them; its file is called e.conf."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "e.conf")
    return str(caught.value)
