"""Known_Recipients: which recipients exist, in which scope."""

import os
from functools import partial
from pathlib import Path

import pytest
import trio.testing
from recipient_files import stanza, write, write_users

from triosmtp import DONE, ConfigError, Policy, Session, load_config
from triosmtp.config import parse_config
from triosmtp.event import Refused
from triosmtp.policy import Done
from triosmtp.smtp import Address
from triosmtp.testing import MemoryServer, open_memory_server


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return write_users(tmp_path)


UNKNOWN = "550 5.1.1 The recipient is not known here"
KNOWN = "250 2.1.5 Recipient ok"


async def answers(server: MemoryServer, *recipients: str, peer: str = "192.0.2.1") -> list[str]:
    client = server.connect(peer=peer)
    await client.read()
    await client.command("EHLO c.example.org")
    await client.command("MAIL FROM:<me@example.net> SMTPUTF8")
    return [str(await client.command(f"RCPT TO:<{recipient}>")) for recipient in recipients]


@pytest.mark.parametrize(
    ("recipient", "known"),
    [
        ("user@example.org", True),
        ("user@EXAMPLE.org", True),
        ("User@example.org", False),
        ('"user"@example.org', True),
        ("Spaces@example.org", True),
        ("spaces@example.org", False),
        ('"quoted part"@example.org', True),
        ('"q*"@example.org', True),
        ('"qx"@example.org', False),
        ("lists+anything@example.org", True),
        ("lists+a+b@example.org", True),
        ("lists+@example.org", True),
        ("lists@example.org", False),
        ("Lists+a@example.org", False),
        ("user+a@example.org", False),
        ("a+b+c@example.org", False),
        ("müller@example.org", True),
        ("a#b@example.org", True),
        ("dots..in.a.row@example.org", True),
        ("user@xn--bcher-kva.example", True),
        ("user@BÜCHER.example", True),
        ("anybody@all.example", True),
        ('""@all.example', True),
        ('""@example.org', False),
        ("sales@example.org", False),
        ("anybody@other.example", False),
        ("user@other.example", False),
        ("postmaster@other.example", True),
        ("PostMaster@example.org", True),
        ("postmaster", True),
    ],
)
async def test_only_known_recipients_exist(users: Path, recipient: str, known: bool) -> None:
    async with open_memory_server(stanza(users)) as server:
        (answer,) = await answers(server, recipient)
        assert answer == (KNOWN if known else UNKNOWN)
        told = [event.decided_by for event in server.events if isinstance(event, Refused)]
        assert told == ([] if known else ["Known_Recipients"])


async def test_case_is_folded_if_it_is_said(users: Path) -> None:
    recipients = (
        "USER@example.org",
        "spaces@example.org",
        "LISTS+A@example.org",
        "MÜLLER@example.org",
        "x@example.org",
    )
    async with open_memory_server(stanza(users, "Recipients_Fold_Case = true")) as server:
        assert await answers(server, *recipients) == [KNOWN] * 4 + [UNKNOWN]


class Everybody(Policy):
    async def validate_rcptto(self, session: Session, recipient: Address, parameters: object) -> Done:
        return DONE


@pytest.mark.parametrize("policy", [None, Everybody()])
async def test_relayed_mail_is_not_checked_and_no_client_is_exempt(users: Path, policy: Policy | None) -> None:
    conf = stanza(users, listen='Peer "10.0.0.0/8" { Relay_Hosts = ( "10.0.0.0/8" ) }')
    far, nobody = "x@far.example", "nobody@example.org"
    async with open_memory_server(conf, policy=policy) as server:
        assert await answers(server, far, nobody, peer="10.1.1.1") == [KNOWN, UNKNOWN]
        assert [answer[:3] for answer in await answers(server, far, nobody)] == ["550", "550"]


async def test_scopes_and_the_domain_scope(users: Path, tmp_path: Path) -> None:
    write(tmp_path / "others", "Special@other.example\n")
    others = f'Known_Recipients = ( "file:{tmp_path}/others" )'
    more = f"""
        Domain "OTHER.example" {{ {others} Max_Outbound_Connections = 5 }}
        Domain all.example {{ Recipients_Fold_Case = on }}
        Domain "bücher.example" {{ Known_Recipients = ( ) }}
        Domain yahoo.com {{ Bounce_Pattern = "a\n\nb" Nested {{ }} }}
    """
    listen = 'Peer "10.0.0.0/8" { Known_Recipients = ( ) }'
    recipients = ("Special@other.example", "special@other.example", "user@other.example", "user@example.org",
                  "no@example.org", "any@bücher.example")  # fmt: skip
    config = parse_config(stanza(users, more, listen=listen))
    yahoo, outbound = sorted(problem.message for problem in config.warnings)
    assert yahoo.startswith("Domain is a scope of Momentum's, of which triosmtp reads Known_Recipients, ")
    assert outbound.startswith("Max_Outbound_Connections has no effect in a Domain, of which")
    async with open_memory_server(config) as server:
        codes = [answer[:3] for answer in await answers(server, *recipients)]
        assert codes == ["250", "550", "550", "250", "550", "250"]
        codes = [answer[:3] for answer in await answers(server, *recipients, peer="10.1.1.1")]
        assert codes == ["250", "550", "550", "250", "250", "250"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Domain \"*example.org\" { Known_Recipients = file:x }", "Domain: the domain is malformed"),
        ("Domain a.example { Known_Recipient = file:x }", "did you mean Known_Recipients?"),
        ("Known_Recipients = /etc/x", 'expected file:/path, found "/etc/x"'),
        ("Known_Recipients = ( file: )", 'expected file:/path, found "file:"'),
        ("Known_Recipients = ldap:x", 'expected file:/path, found "ldap:x"'),
        ("ESMTP_Listener { Domain a.b { Known_Recipients = file:x } }", "Domain is not valid in an ESMTP_Listener"),
    ],
)  # fmt: skip
def test_a_malformed_recipient_file_is_an_error(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f'{text} ESMTP_Listener {{ Listen ":25" {{ }} }}')
    assert error in str(caught.value)


def test_the_ways_to_name_a_file(tmp_path: Path) -> None:
    (tmp_path / "t.conf").write_text(
        'Known_Recipients = ( file:a "file:/b" "file:///c" ) ESMTP_Listener { Listen ":25" { } }'
    )
    config = load_config(tmp_path / "t.conf")
    assert config.base.known_recipients == (tmp_path / "a", Path("/b"), Path("/c"))


async def test_a_file_that_cannot_be_used_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nobody\n\n")
    (tmp_path / "long").write_text("user@example.org\n" + "x" * 5000)
    os.mkfifo(tmp_path / "pipe")
    for name, error in (
        ("missing", "No such file or directory"),
        ("empty", "it contains no recipient"),
        ("long", "line 2 is longer than 2048 octets"),
        ("pipe", "not a regular file"),
        (".", "Is a directory"),
    ):
        with pytest.raises(ConfigError) as caught:
            async with open_memory_server(stanza(tmp_path / name)):
                pass
        (problem,) = caught.value.problems
        assert problem.message == f'Known_Recipients: "{tmp_path / name}": {error}'
        assert problem.position is not None
    domain = f'Known_Recipients = ( ) Domain other.example {{ Known_Recipients = "file:{tmp_path}/gone" }}'
    with pytest.raises(ConfigError, match="gone"):
        async with open_memory_server(stanza(tmp_path, domain)):
            pass


async def test_a_change_is_taken_up_and_a_loss_is_not(
    users: Path, caplog: pytest.LogCaptureFixture, mock_clock: trio.testing.MockClock
) -> None:
    both = ("user@example.org", "new@example.org")
    async with open_memory_server(stanza(users)) as server:

        async def after_a_second() -> list[str]:
            mock_clock.jump(1.0)
            return [answer[:3] for answer in await answers(server, *both)]

        assert await after_a_second() == ["250", "550"]
        write(users, "new@example.org\n", age=9)
        assert [answer[:3] for answer in await answers(server, *both)] == ["250", "550"], "not looked at yet"
        assert await after_a_second() == ["550", "250"]
        broken = partial(write, users, "x" * 9999, age=7)
        for damage in (users.unlink, partial(write, users, "", age=8), broken):
            damage()
            caplog.clear()
            assert await after_a_second() == ["550", "250"]
            assert await after_a_second() == ["550", "250"]
            assert [r.levelname for r in caplog.records if "stay known" in r.getMessage()] == ["ERROR"]
        write(users, "user@example.org\n", age=0)
        assert await after_a_second() == ["550", "250"], "it may be written yet"
        write(users, "user@example.org\n", age=6)
        assert await after_a_second() == ["250", "550"]


async def test_unknown_recipients_count_for_max_refused_recipients(users: Path) -> None:
    async with open_memory_server(stanza(users, "Max_Refused_Recipients = 2")) as server:
        told = await answers(server, *(f"guess{number}@example.org" for number in range(3)))
        assert [answer[:3] for answer in told] == ["550", "550", "421"]
