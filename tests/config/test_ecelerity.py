"""A configuration as Momentum's users have it loads as it is, with warnings for what is not a listener's business."""

from ipaddress import ip_address
from pathlib import Path

from triosmtp.config import TCPAddress, UnixAddress, load_config

PATH = Path(__file__).with_name("ecelerity.conf")
CONFIG = load_config(PATH)


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
