"""The functions that scripts call, by group.  :data:`TABLES` has all of them, each with its state.

Functions of scripts::

    contexts.py                vctx:get, msg:context_get and the others
    accept_functions.py        ac: the connection
    envelope_functions.py      msg: sender, recipients, addresses of the peer and the Listen
    header_functions.py        msg:header
    content_functions.py       msg:raw, msg:body, msg:text, msg:mime
    msys_functions.py          msys.dnsLookup, expandMacro, readfile and the others
    pcre_functions.py          msys.pcre
    cidr_functions.py          msys.cidr
    counter_functions.py       msys.audit_series, msys.audit, msys.gauge_cache, counter
    http_functions.py          http.client
    codec_functions.py         base64, qp, idn, json, msys.parseRFC2822Addresses
    lock_functions.py          msys.lock, thread.mutex
    registration_functions.py  msys.registerControl, msys.registerAuth; dumper.lua, pool.lua
    ec_string.py               strings that a function fills
    missing_functions.py       names that load although triosmtp does not have them

What they are made of, without Lua::

    access.py                  session, contexts and message of a callout
    resources.py               what the scripts of a process share
    pcre.py                    regular expressions of PCRE2, bounded in time
    cidr_map.py                networks and their texts, from files of rbldnsd
    rate_counters.py           audit series, gauge caches, named counters
    inbound_audit.py           counts of connections, messages and refusals
    open_sessions.py           the sessions by network
    lock_table.py              locks
    dns_lookup.py              DNS
    extras.py                  imports what functions need when scripts are loaded
    macro.py                   %{…}
    header_text.py             encoded words
    mailbox_list.py            address lists
    mime_part.py               the parts of a message
    text_codecs.py             base64, quoted-printable, IDN, JSON
    function_table.py          the table of all functions, for the documentation
"""

from typing import Final

from triosmtp.lua.api import (
    accept_functions,
    cidr_functions,
    codec_functions,
    content_functions,
    contexts,
    counter_functions,
    ec_string,
    envelope_functions,
    header_functions,
    http_functions,
    lock_functions,
    missing_functions,
    msys_functions,
    pcre_functions,
    registration_functions,
)
from triosmtp.lua.host import HostTable

__all__ = ["TABLES"]

TABLES: Final[tuple[HostTable, ...]] = (
    contexts.TABLE,
    accept_functions.TABLE,
    envelope_functions.TABLE,
    header_functions.TABLE,
    content_functions.TABLE,
    msys_functions.TABLE,
    pcre_functions.TABLE,
    cidr_functions.TABLE,
    counter_functions.TABLE,
    http_functions.TABLE,
    codec_functions.TABLE,
    lock_functions.TABLE,
    registration_functions.TABLE,
    ec_string.TABLE,
    missing_functions.TABLE,
)
