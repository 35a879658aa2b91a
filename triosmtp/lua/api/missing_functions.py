"""Functions of Momentum that triosmtp does not have: they load, with one warning, and a call is a script error.

A script may require a module that it never calls.
"""

from triosmtp.lua.host import HostTable

__all__ = ["TABLE"]

TABLE = HostTable()

_MSYS = ("snmpTrap", "policyeditor", "idn_utf8", "http_request")
_CORE = (
    "io_wrapper_open", "dns_get_domain", "mail_queue_delay_domain", "mail_queue_get_domain_counters", "enqueue",
    "ec_message_new", "ec_message_copy", "ec_message_clone", "ec_message_inject", "validate_email", "strerror",
    "ec_httpsrv_register", "ec_logger_create", "ec_log_paniclog", "mail_queue_force", "mail_queue_fail_domain",
)  # fmt: skip
_MESSAGE = (
    "binding", "binding_group", "routing_domain", "copy", "clone", "inject", "build", "forceBounce", "requeue",
    "code", "context_clear", "makeBoundary", "makePart", "raw_replace", "body_replace", "text_replace",
    "header_replace", "attach", "swap_body", "queue_domain", "num_attempts", "timed_fail",
)  # fmt: skip
_MODULES = (
    "msys.db", "msys.datasource", "msys.av", "msys.brightmail", "msys.cloudmark", "msys.commtouch",
    "msys.commtouch_ctasd", "msys.beik", "msys.expurgate", "msys.bounce", "msys.pbp", "msys.policyeditor",
    "msys.timer", "msys.os", "msys.getopt", "msys.threadpool", "msys.httpsrv", "msys.validate",
    "msys.validate.opendkim", "msys.adaptive", "msys.delivery", "msys.dp_config", "msys.rcptto", "msys.symantec",
    "msys.smtpapi", "msys.snmp", "msys.xml", "msys.curl", "curl", "xml", "expat", "ssl", "crypto", "opendkim",
    "opendkim.dkim", "dkim", "lfs", "socket", "db", "datasource", "threadpool", "timer",
)  # fmt: skip

TABLE.out(*(f"msys.{name}" for name in _MSYS))
TABLE.out(*(f"msys.core.{name}" for name in _CORE))
TABLE.out(*(f"msg:{name}" for name in _MESSAGE))
TABLE.out(*(f"{name}.*" for name in _MODULES))
