"""The configuration language of ecelerity.conf: from a file to the settings of a connection.

Only ``file.py`` reads files; all other modules are pure.  The route of a configuration::

    file.py            reads the file and the files that it includes
    source.py          its text; places in it; the problems found
    lexer.py           text → tokens
    parser.py          tokens → a syntax tree with places
    scope.py           trees → merged blocks; names and scopes checked, values converted
      options/           the one option table: Settings, and its rows by subject
      value.py           the types of values; specification.py: those with a grammar of their own
      auth_value.py      the types of options of AUTH
      tls_value.py       the types of TLS options; server_name.py: what a Server_Name sets
      capability.py      the privileges of root that may be kept
      address.py         Listen addresses
      momentum.py        Momentum's names that are not implemented
    configuration.py   blocks → Config, which returns the Listens, and the Settings for a Listen and a peer
      resolution.py      the order of fallback, Peer blocks by address
    check.py           errors of the whole that do not merely follow from another error
    query.py           queries as on Momentum's console: show, get, eval
"""

from triosmtp.config.configuration import Config, DomainScope, Listen, LogFile, Security
from triosmtp.config.file import examine_config, load_config, parse_config
from triosmtp.config.option import Option
from triosmtp.config.options import OPTIONS, Settings, problem_at
from triosmtp.config.query import Query, evaluate, find_query, get, options_of_connections, show
from triosmtp.config.types.address import ListenAddress, TCPAddress, UnixAddress, parse_address
from triosmtp.config.types.auth_value import AuthParameters, ExternalParameters, mechanisms_of
from triosmtp.config.types.capability import CAPABILITY_NAMES
from triosmtp.config.types.server_name import ServerName
from triosmtp.config.types.specification import OF_THE_DELIVERY
from triosmtp.config.types.tls_value import RelayClient

__all__ = [
    "CAPABILITY_NAMES",
    "OF_THE_DELIVERY",
    "OPTIONS",
    "AuthParameters",
    "Config",
    "DomainScope",
    "ExternalParameters",
    "Listen",
    "ListenAddress",
    "LogFile",
    "Option",
    "Query",
    "RelayClient",
    "Security",
    "ServerName",
    "Settings",
    "TCPAddress",
    "UnixAddress",
    "evaluate",
    "examine_config",
    "find_query",
    "get",
    "load_config",
    "mechanisms_of",
    "options_of_connections",
    "parse_address",
    "parse_config",
    "problem_at",
    "show",
]
