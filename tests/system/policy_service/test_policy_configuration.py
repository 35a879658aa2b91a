"""Policy_Listener and the options of deciding elsewhere, in the configuration's language."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from triosmtp import ConfigError, parse_config
from triosmtp.commands.check_command import check_config

MAIL = 'ESMTP_Listener { Listen ":25" { } } Relay_Domains = ( "example.com" ) Deliver_To = "discard:" '


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('Policy_Listener { Listen "127.0.0.1:8025" { } }', 'needs a Token_File, or a TLS_Client_CA'),
        ('Policy_Listener { Token_File = t Listen ":8025" { } }', "is public, and has no TLS_Certificate"),
        ('Policy_Listener { Token_File = t Listen "192.0.2.1:8025" { } }', "is public"),
        ('Policy_Listener { Token_File = t Listen "[::]:8025" { } }', "is public"),
        ('Policy_Listener { TLS_Client_CA = c Listen "/tmp/x" { } }', "TLS_Client_CA: needs a TLS_Certificate"),
        ('Policy_Listener { Token_File = t Listen "127.0.0.1:25" { } } ESMTP_Listener { Listen "127.0.0.1:25" { } }',
         "is the address of Listen"),
        ('Policy_Listener { Listen "/tmp/x" { Idle_Time = 5 } }', "Idle_Time is not valid in a Listen of"),
        ('Policy_Listener { Listen "/tmp/x" { Peer "10.0.0.1" { } } }', "Peer is not valid"),
        ('Token_File = "t"', "Token_File is not valid in the global scope"),
        ("Policy_Fallback = maybe", "Policy_Fallback: expected"),
        ("Policy_Fallback_Phases = [ mail = continue ]", "Policy_Fallback_Phases: expected a phase"),
        ("Policy_Fallback_Phases = [ mailfrom = no ]", "Policy_Fallback_Phases: expected"),
        ("Policy_Fallback_Phases = tempfail", "expected a dictionary"),
        ("Policy_Timeout = soon", "Policy_Timeout: expected"),
        ("Policy = 'websocket:a b'", "Policy: expected python:"),
        ("Policy = 'websocket:'", "Policy: expected python:"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        parse_config(MAIL + text)


def test_what_is_right_is_taken() -> None:
    config = parse_config(
        MAIL
        + """
        Policy = ( "websocket:fraud" "python:a.b:C" )
        TLS_Certificate = "/global.pem" TLS_Client_CA = "/partners.pem"
        ESMTP_Listener { Peer "10.0.0.0/8" { Policy_Timeout = 1.5 Policy_Fallback_Phases = [ connect = continue ] } }
        Policy_Listener {
          TLS_Certificate = "/policy.pem"
          Listen ":8025" { TLS_Client_CA = "/deciders.pem" }
          Listen "/run/policy" { File_Mode = 0600 TLS_Certificate = none }
        }
        """
    )
    public, unix = config.policy_listens
    assert config.resolve(public, None).tls_client_ca == Path("/deciders.pem")
    # Options that admit SMTP clients never admit deciders.
    assert config.resolve(unix, None).tls_client_ca is None
    assert config.resolve(unix, None).tls_certificate == ()
    assert unix.address.mode == 0o600  # type: ignore[union-attr]  # a Unix socket
    (mail,) = config.listens
    settings = config.resolve(mail, ip_address("10.1.1.1"))
    assert (settings.policy_timeout, settings.policy_fallback) == (1.5, "tempfail")
    assert settings.policy_fallback_phases == {"connect": "continue"}
    assert settings.policy == ("websocket:fraud", "python:a.b:C")


def test_a_group_that_nobody_can_join_is_a_warning() -> None:
    config = parse_config(MAIL + "Policy = 'websocket:fraud'")
    (found,) = [problem for problem in check_config(config) if "Policy_Listener" in problem.message]
    assert '"websocket:fraud": no Policy_Listener for its deciders' in found.message
