"""A configuration as Momentum's users have it loads as it is, with warnings for what is not a listener's business."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from triosmtp.config import OPTIONS, TCPAddress, UnixAddress, load_config, parse_config
from triosmtp.config.momentum import MOMENTUM_OPTIONS, MOMENTUM_SCOPES
from triosmtp.config.scope import SCOPES

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


def test_its_listens() -> None:
    assert [(listen.name, listen.address) for listen in CONFIG.listens] == [
        ("*:25", TCPAddress(None, 25)),
        (":465", TCPAddress(None, 465)),
        ("/var/run/ecelerity.smtp", UnixAddress("/var/run/ecelerity.smtp", 0o660)),
    ]


def test_its_answers() -> None:
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


def test_each_thing_that_has_no_effect_is_told_once() -> None:
    told = [problem.message.split(" ")[0] for problem in CONFIG.warnings]
    assert all(problem.severity == "warning" for problem in CONFIG.warnings)
    for name in (
        "License",
        "Capabilities:",
        "Event_Loop",
        "Authorization",
    ):
        assert told.count(name) == 1
    for name in ("ec_logger", "scriptlet", "ds_core", "opendkim", "Binding_Group"):
        assert told.count(name) == 1
    # What is inside a stanza that is skipped is skipped with it.
    assert not {"Capabilities", "mainlog", "script", "Bind_Address"} & set(told)
    assert not {"Relay_Domains", "Control_Listener", "Reconfig_Message"} & set(told)
    assert [listen.name for listen in CONFIG.control_listens] == ["/tmp/2025"]
