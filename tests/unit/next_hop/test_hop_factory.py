"""The delivery of a target, by the options of its Delivery."""

from pathlib import Path

import pytest

from triosmtp.config import parse_config
from triosmtp.delivery import TargetContext, TargetHealth
from triosmtp.errors import ConfigError
from triosmtp.limits.target_slots import TargetSlots
from triosmtp.next_hop.hop_factory import hop_settings_of, make_next_hop
from triosmtp.next_hop.hop_settings import HopAddress, HopTimeouts

CONF = """
Relay_Domains = ( "example.com" )
Deliver_To = "{name}"
{delivery}
ESMTP_Listener {{ Listen ":25" {{ }} }}
"""
CONTEXT = TargetContext("mx.example.com", TargetHealth("hop"))


def test_a_short_form_to_another_host_requires_a_verified_name() -> None:
    config = parse_config(CONF.format(name="smtp://hop.example.org", delivery=""))
    settings = hop_settings_of(config.target("smtp://hop.example.org:25"))
    assert settings.addresses == (
        HopAddress(host="hop.example.org", port=25, tls="required", tls_name="hop.example.org"),
    )
    assert (settings.tls_verify, settings.tls_files.ca, settings.xclient) == ("host", None, False)
    assert settings.timeouts == HopTimeouts()
    for name in ("lmtp:/run/lmtp", "lmtp://127.0.0.1:24", "smtp://[::1]:25", "smtp://localhost:25"):
        assert hop_settings_of(config.target(name)).addresses[0].tls == "no", name
    (address,) = hop_settings_of(config.target("smtps://127.0.0.1:465")).addresses
    assert (address.tls, address.implicit_tls) == ("required", True)


def test_options_of_a_delivery() -> None:
    delivery = """Delivery "hop" {{
  Deliver_To = ( "lmtp://one.example:24" "lmtp://two.example" )
  TLS = "ifavailable" TLS_Verify = "ca" TLS_Name = "hop.example" EHLO_Hostname = "me.example"
  TLS_Fingerprints = ( "sha256:{}" "spki:{}" ) XCLIENT = true
  Connect_Timeout = 1 EHLO_Timeout = 2 MailFrom_Timeout = 3 RcptTo_Timeout = 4 Body_Timeout = 5 Idle_Timeout = 6
  Max_Outbound_Connections = 7 Max_Deliveries_Per_Connection = 8
}}""".format("0" * 64, "1" * 64)
    settings = hop_settings_of(parse_config(CONF.format(name="hop", delivery=delivery)).target("hop"))
    assert [str(each) for each in settings.addresses] == ["lmtp://one.example:24", "lmtp://two.example:24"]
    assert {(each.tls, each.tls_name, each.lmtp) for each in settings.addresses} == {
        ("ifavailable", "hop.example", True)
    }
    assert settings.tls_fingerprints == (("sha256", "0" * 64), ("spki", "1" * 64))
    assert settings.timeouts == HopTimeouts(connect=1, ehlo=2, mail=3, rcpt=4, body=5, idle=6)
    assert (settings.max_connections, settings.max_deliveries, settings.xclient) == (7, 8, True)
    assert (settings.tls_verify, settings.ehlo_hostname) == ("ca", "me.example")


def test_every_file_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    delivery = f"""Delivery "hop" {{
  Deliver_To = "smtp://hop.example:25"
  TLS_CA = "{tmp_path}/ca.pem"
  Auth_User = "me"
  Auth_Password_File = "{tmp_path}/password"
}}"""
    config = parse_config(CONF.format(name="hop", delivery=delivery))
    with pytest.raises(ConfigError) as refused:
        make_next_hop(config.target("hop"), CONTEXT)
    found = [(problem.message, problem.position.line) for problem in refused.value.problems if problem.position]
    assert found == [
        (f'TLS_CA: "{tmp_path}/ca.pem": does not exist', 6),
        (f'Auth_Password_File: "{tmp_path}/password": No such file or directory', 8),
    ]


def test_the_name_of_this_host_is_the_default() -> None:
    config = parse_config(CONF.format(name="lmtp:/run/lmtp", delivery=""))
    delivery = make_next_hop(config.target("lmtp:/run/lmtp"), CONTEXT)
    assert delivery.settings.ehlo_hostname == "mx.example.com"
    assert str(delivery) == "lmtp:/run/lmtp"


def test_a_hop_whose_files_are_wrong_uses_no_slots(tmp_path: Path) -> None:
    slots = TargetSlots(3)
    delivery = f'Delivery "hop" {{ Deliver_To = "smtp://127.0.0.1:25" TLS = "required" TLS_CA = "{tmp_path}/none" }}'
    target = parse_config(CONF.format(name="hop", delivery=delivery)).target("hop")
    for _ in range(2):  # a reload that is tried again
        with pytest.raises(ConfigError, match="none"):
            make_next_hop(target, TargetContext("mx.example.com", TargetHealth("hop"), slots=lambda _limit: slots))
    assert slots.pools == 0
