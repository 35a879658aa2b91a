"""A configuration as Momentum's users have it loads as it is, with warnings for what is not a listener's business."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from triosmtp.auth import MockKey
from triosmtp.config import OPTIONS, TCPAddress, UnixAddress, load_config, parse_config
from triosmtp.config.momentum_options import MOMENTUM_OPTIONS, MOMENTUM_SCOPES
from triosmtp.config.scope import SCOPES
from triosmtp.errors import Severity
from triosmtp.policy import Chain
from triosmtp.server.sasl_config import build_sasl_config

PATH = Path(__file__).with_name("ecelerity.conf")
CONFIG = load_config(PATH)


@pytest.mark.parametrize("name", sorted(MOMENTUM_OPTIONS - OPTIONS.keys()))
def test_each_option_of_momentum_that_is_not_built_is_a_warning(name: str) -> None:
    (problem,) = parse_config(f'{name} = x ESMTP_Listener {{ Listen ":25" {{ }} }}').warnings
    assert problem.message == f"{name} is an option of Momentum's that triosmtp does not implement: it has no effect"


@pytest.mark.parametrize("name", sorted(MOMENTUM_SCOPES - SCOPES.keys()))
def test_each_scope_of_momentum_that_is_not_built_is_a_warning(name: str) -> None:
    (problem,) = parse_config(f'{name} x {{ a = b }} ESMTP_Listener {{ Listen ":25" {{ }} }}').warnings
    assert problem.message == f"{name} is a scope of Momentum's that triosmtp does not implement: all in it is skipped"


def test_the_names_are_those_of_momentum_5() -> None:
    assert {"use_dane", "log_hires_timestamp", "tlsv13_ciphersuites", "enable_mta_sts"} <= MOMENTUM_OPTIONS
    assert {"curfew", "dns_rate_limit", "logs", "peer"} <= MOMENTUM_SCOPES
    assert len(MOMENTUM_OPTIONS) + len(MOMENTUM_SCOPES) == 384


def test_the_listens_of_ecelerity_conf() -> None:
    assert [(listen.name, listen.address) for listen in CONFIG.listens] == [
        ("*:25", TCPAddress(None, 25)),
        (":465", TCPAddress(None, 465)),
        ("/var/run/ecelerity.smtp", UnixAddress("/var/run/ecelerity.smtp", 0o660)),
    ]


def test_the_settings_of_ecelerity_conf() -> None:
    smtp, smtps, unix = (CONFIG.resolve(listen, None) for listen in CONFIG.listens)
    assert smtp.offers_starttls
    assert smtp.tls_protocols == ("TLSv1.2", "TLSv1.3")
    assert smtp.smtp_extensions == ("ENHANCEDSTATUSCODES", "STARTTLS", "AUTH PLAIN LOGIN")
    assert smtp.context == {"origin": "gateway", "tier": "1"}
    assert smtp.rfc2822_lone_lf_in_body == "fix"
    assert (smtp.listen_backlog, smtp.max_message_size) == (800, 20971520)
    assert smtps.use_ssl
    assert smtps.tls_verified_peer_can_relay
    assert not smtps.offers_starttls
    assert not unix.offers_starttls
    inside = CONFIG.resolve(CONFIG.listens[0], ip_address("10.1.2.3"))
    assert (inside.idle_time, inside.pathway, inside.open_relay) == (30.0, "internal", True)
    assert (inside.require_ehlo, inside.max_receptions_per_connection) == (True, 100)
    assert inside.tls_certificate == ()


def test_each_name_without_effect_causes_one_warning() -> None:
    told = [problem.message.split(" ")[0] for problem in CONFIG.warnings]
    assert all(problem.severity is Severity.WARNING for problem in CONFIG.warnings)
    for name in (
        "License",
        "Capabilities:",
        "Event_Loop",
        "Authorization",
    ):
        assert told.count(name) == 1
    for name in ("ec_logger", "ds_core", "opendkim", "Binding_Group"):
        assert told.count(name) == 1
    # The contents of a skipped stanza are skipped with it.
    assert not {"Capabilities", "mainlog", "script", "Bind_Address"} & set(told)
    assert not {"Relay_Domains", "Control_Listener", "Reconfig_Message"} & set(told)
    assert [listen.name for listen in CONFIG.control_listens] == ["/tmp/2025"]


CURRENT = load_config(PATH.with_name("ecelerity-5.conf"))


def test_a_whole_file_of_momentum_5_loads() -> None:
    assert [(each.name, each.address) for each in CURRENT.listens] == [
        ("*:25", TCPAddress(None, 25)),
        ("127.0.0.1:25", TCPAddress("127.0.0.1", 25)),
        ("[*]:25", TCPAddress(None, 25, ipv6=True)),
        (":587", TCPAddress(None, 587)),
    ]
    assert [each.address for each in CURRENT.control_listens] == [UnixAddress("/tmp/2025", 0o660)]
    assert CURRENT.base.log_hires_timestamp
    every, near, six, submission = (CURRENT.resolve(listen, None) for listen in CURRENT.listens)
    assert (every.open_relay, near.open_relay, six.open_relay) == (False, True, False)
    assert every.relay_domains == ("example.net", "*.example.net")
    assert every.proxy_protocol_timeout == 60.0
    assert (submission.require_ehlo, submission.max_message_size) == (True, 10485760)
    assert CURRENT.resolve(CURRENT.listens[3], ip_address("192.0.2.9")).idle_time == 30.0
    offered = build_sasl_config(every, Chain(), {}, MockKey())
    assert (list(offered.stores), sorted(offered.unbacked)) == (["CRAM-MD5"], ["LOGIN", "PLAIN"])


def test_a_warning_has_the_position_of_the_name_without_effect() -> None:
    assert {each.severity for each in CURRENT.warnings} == {"warning"}
    text = PATH.with_name("ecelerity-5.conf").read_text().splitlines()
    told = [(each.position.line, each.message) for each in CURRENT.warnings if each.position is not None]
    for line, message in told:
        word = message.split(" ")[0].rstrip(":")
        assert word.lower() in text[line - 1].lower() or word in {"there", "AuthPlainParameters"}, (line, message)
    messages = "\n".join(message for _, message in told)
    for part in (
        'Listen "127.0.0.1:2025" is not served',
        'Listen "[::1]:2025" is not served',
        "Peer has no effect in a Control_Listener",
        "AuthDigestMD5Parameters has no effect in a Control_Listener",
        'there is no Pathway "default"',
        "AuthPlainParameters: sqlauth:// is answered by a module",
        "AuthLoginParameters: radius:// is answered by a module",
        'Listen_Backlog has no effect for Listen "127.0.0.1:25"',
        *(f"{name} is a scope of Momentum's" for name in ("Logs", "Binding", "Domain", "Curfew", "Debug_Throttle")),
        *(f"{name} is taken for a module" for name in ("ec_logger", "custom_logger", "auth_ds", "ds_core")),
        *(f"{name} is an option of Momentum's" for name in ("Enable_DANE", "Timestampformat", "Use_MTA_STS")),
    ):
        assert part in messages, part
