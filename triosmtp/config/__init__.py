"""The configuration language of ecelerity.conf: from a file to the settings of a connection.

Only ``file.py`` reads files; all other modules are pure.  The route of a configuration::

    file.py            reads the file and the files that it includes
    source.py          its text; places in it; the problems found
    lexer.py           text → tokens
    parser.py          tokens → a syntax tree with places
    scope.py           trees → merged blocks; names and scopes checked, values converted
      options/           the one option table: Settings, and its rows by subject
      types/             the types of option values: option_type.py, and one module for each subject
      option.py            a row of the option table
      suggestion.py        the known name that was probably meant
      momentum_options.py  Momentum's names that are not implemented
    configuration.py   blocks → Config, which returns the Listens, and the Settings for a Listen and a peer
      resolution.py      the order of fallback, Peer blocks by address
      target_settings.py   the settings of a target: those of a Delivery scope, or the defaults
    filter_check.py    errors of Filter scopes
    script_check.py    errors of scriptlet scopes
    delivery_check.py  errors of Delivery scopes and targets
    consumer_check.py  errors of Consumer scopes
    auth_check.py      errors of Auth_Service
    check.py           errors of the whole that do not merely follow from another error
      tls_check.py       the same for TLS: options that need others, files that belong together
    query.py           queries as on Momentum's console: show, get, eval
"""

from triosmtp.config.configuration import Config, DomainScope, Filter, Listen, LogFile, Script, Scripts, Security
from triosmtp.config.file import examine_config, load_config, parse_config
from triosmtp.config.option import Option
from triosmtp.config.options import OPTIONS, Settings, problem_at
from triosmtp.config.query import Query, evaluate, find_query, get, options_of_connections, show
from triosmtp.config.target_settings import TargetSettings
from triosmtp.config.types.auth_parameters import MOMENTUM_SCHEMES, AuthParameters, ExternalParameters, mechanisms_of
from triosmtp.config.types.filter_address import FilterAddress, parse_filter_address
from triosmtp.config.types.listen_address import ListenAddress, TCPAddress, UnixAddress, parse_address
from triosmtp.config.types.rspamd_address import RspamdAddress, parse_rspamd_address
from triosmtp.config.types.security_types import CAPABILITY_NAMES
from triosmtp.config.types.server_name import ServerName
from triosmtp.config.types.smtp_types import DELIVERY_EXTENSIONS
from triosmtp.config.types.target_address import TargetAddress
from triosmtp.config.types.tls_types import RelayClient

__all__ = [
    "CAPABILITY_NAMES",
    "DELIVERY_EXTENSIONS",
    "MOMENTUM_SCHEMES",
    "OPTIONS",
    "AuthParameters",
    "Config",
    "DomainScope",
    "ExternalParameters",
    "Filter",
    "FilterAddress",
    "Listen",
    "ListenAddress",
    "LogFile",
    "Option",
    "Query",
    "RelayClient",
    "RspamdAddress",
    "Script",
    "Scripts",
    "Security",
    "ServerName",
    "Settings",
    "TCPAddress",
    "TargetAddress",
    "TargetSettings",
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
    "parse_filter_address",
    "parse_rspamd_address",
    "problem_at",
    "show",
]
