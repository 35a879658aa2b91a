"""Queries about a configuration, for the command line and the console; each returns lines of text."""

from collections.abc import Sequence
from ipaddress import ip_address

from triosmtp.config import (
    Config,
    Listen,
    Settings,
    evaluate,
    find_query,
    get,
    options_of_connections,
    show,
)
from triosmtp.errors import QueryError

__all__ = ["NotSetError", "config_eval", "config_get", "config_show", "config_showrecurse"]


class NotSetError(QueryError):
    """The option is not set in that scope."""


def config_show(config: Config, words: Sequence[str]) -> list[str]:
    """Return the options set in the scope that ``words`` name, or only one option if they end with its name.

    :raises QueryError: if a word names nothing.
    """
    query = find_query(config, words)
    if query.option is None:
        return list(show(query.own_block))
    line = get(query.own_block, query.option)
    return [] if line is None else [line]


def config_showrecurse(config: Config, words: Sequence[str]) -> list[str]:
    """Return the options set in a scope and in all scopes inside it.

    :raises QueryError: if a word names nothing, or an option.
    """
    query = find_query(config, words)
    if query.option is not None:
        raise QueryError(f"showrecurse takes only scopes, and {query.option.name} is an option")
    return list(show(query.own_block, recurse=True))


def config_get(config: Config, words: Sequence[str]) -> list[str]:
    """Return an option as it is set in exactly that scope.

    :raises NotSetError: if it is not set there.
    :raises QueryError: if a word names nothing.
    """
    query = find_query(config, words)
    if query.option is None:
        raise QueryError("get needs the name of an option as its last word")
    line = get(query.own_block, query.option)
    if line is None:
        raise NotSetError(f"{query.option.name} is not set in that scope")
    return [line]


def config_eval(
    config: Config, words: Sequence[str], *, local: str | None = None, peer: str | None = None
) -> list[str]:
    """Return an option, or all options, as in force in a scope, or for a connection from ``peer`` to ``local``.

    :raises QueryError: if a word or an address names nothing.
    """
    query = find_query(config, words)
    if local is None and peer is None:
        query.check()
        return evaluate(query.settings(config), query.options)
    if query.block is not config.root:
        raise QueryError("with --local or --peer, name an option without scopes")
    options = options_of_connections() if query.option is None else query.options
    if not all(each in options_of_connections() for each in options):
        raise QueryError(f"{options[0].name} is no option of connections; its scopes: {', '.join(options[0].scopes)}")
    return evaluate(_connection_settings(config, local, peer), options)


def _connection_settings(config: Config, local: str | None, peer: str | None) -> Settings:
    listen = _listen(config, local)
    if peer is None:
        return config.resolve(listen, None)
    try:
        return config.resolve(listen, ip_address(peer.strip("[]")))
    except ValueError as error:
        raise QueryError(f"--peer: expected an address, found {peer!r}") from error


def _listen(config: Config, local: str | None) -> Listen:
    if local is None and len(config.listens) == 1:
        return config.listens[0]
    names = ", ".join(listen.name for listen in config.listens)
    if local is None:
        raise QueryError(f"--peer needs --local, one of: {names}")
    listen = config.find_listen(local)
    if listen is None:
        raise QueryError(f"--local: no Listen accepts {local}; Listens: {names}")
    return listen
