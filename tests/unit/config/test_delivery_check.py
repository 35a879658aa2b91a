"""The scope Delivery, the targets in Deliver_To, and Domain scopes that contradict one another."""

import re
from pathlib import Path

import pytest

from triosmtp.config import parse_config
from triosmtp.config.delivery_check import READ_BY_SCHEME
from triosmtp.config.option import DELIVERY
from triosmtp.config.options import OPTIONS
from triosmtp.config.types import target_address
from triosmtp.config.types.target_url import URL_SCHEMES
from triosmtp.errors import ConfigError

LISTENER = 'ESMTP_Listener { Listen ":25" { } }'
HOP = 'Deliver_To = "hop" Delivery "hop" {{ Deliver_To = {} }}'


@pytest.fixture(autouse=True)
def every_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the schemes without a factory."""
    monkeypatch.setattr(target_address, "SCHEMES", {**target_address.SCHEMES, **URL_SCHEMES})


def problems(text: str) -> list[str]:
    try:
        return [str(problem) for problem in parse_config(f"{text} {LISTENER}").warnings]
    except ConfigError as error:
        return [str(problem) for problem in error.problems]


@pytest.mark.parametrize(
    "text",
    [
        'Deliver_To = ( "maildir:/a" "discard:" "lmtp:/l" "https://h/" )',
        HOP.format('( "smtp://a" "smtp://b:26" ) Auth_User = u Auth_Password_File = /p XCLIENT = true TLS_Name = x.y'),
        HOP.format('"https://h/" TLS_Protocols = "+TLSv1.2" TLS_Ciphers = "HIGH" TLS_Name = x.y TLS_CA = /c'),
        HOP.format('"https://h/" TLS_Verify = no TLS_Fingerprints = "sha256:' + "0" * 64 + '"'),
        HOP.format('"smtp://h" TLS_Ciphers = "TLS_AES_128_GCM_SHA256"'),
        HOP.format('"lmtp:/l" Verify_Recipients = false'),
        HOP.format('"lmtp:/l" TLS = required TLS_Name = h.example'),
        HOP.format('"lmtp:/l" TLS = ifavailable TLS_Fingerprints = "sha256:' + "0" * 64 + '"'),
        HOP.format('"nats://n/S/x" Credentials_File = /c Monitor = ( "http://n:8222" )'),
        HOP.format('"smtp://a" TLS = required TLS_Fingerprints = "sha256:' + "0" * 64 + '" TLS_Verify = no'),
        'Delivery "q" { Deliver_To = "maildir:/q" } Policy = "python:a:B"',  # which may choose it
        'Delivery "q" { Deliver_To = "maildir:/q" } scriptlet "scriptlet" { script "a" { source = "msys.x" } }',
        'Domain "*.a.example" { Deliver_To = "d" } Delivery "d" { Deliver_To = "discard:" Delivery_Grace = 5 }',
        'Domain a.example { Deliver_To = "discard:" } Domain A.example { Verify_Recipients = off }',
    ],
)  # fmt: skip
def test_what_is_right_has_no_problem(text: str) -> None:
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('Delivery "q" { Deliver_To = "discard:" }', 'warning: Delivery "q" is not used'),
        ('Delivery "q" { TLS = no }', 'error: Delivery "q" needs a Deliver_To'),
        ('Delivery "a b" { Deliver_To = "discard:" }', "error: Delivery: expected a name of letters, digits"),
        ('Deliver_To = inner2 Delivery inner1 { Deliver_To = "discard:" }', "did you mean inner1?"),
        ('Listen = 1 Deliver_To = x', "error: Deliver_To: there is no Delivery \"x\""),
        ("Deliver_To = ( )", "found an empty list"),
        (
            'Policy = "filter:f" Filter f { Connect_To = "policyd:unix:/x" Hold_To = q }',
            'error: Hold_To: there is no Delivery "q"',
        ),
        ('Filter f { Connect_To = "policyd:unix:/x" Hold_To = "maildir:/q" }', "error: Hold_To: expected the name of"),
        ('Deliver_To = ( "discard:" "discard:" )', "stands in the list twice"),
        (f"Deliver_To = ( {' '.join(f'maildir:/{n}' for n in range(5))} )", "at most 4 targets receive"),
        ('Deliver_To = ( "lmtp:/l" "smtp://h" )', "at most one target may be of LMTP or SMTP, found lmtp:/l"),
        (
            'Deliver_To = ( a "smtps://h" ) Delivery a { Deliver_To = "lmtp:/l" }',
            "at most one target may be of LMTP or SMTP, found a and smtps://h:465",
        ),
        (HOP.format('( "lmtp:/l" "smtp://h" )'), "alternatives, so they need one scheme"),
        (HOP.format('( "maildir:/a" "maildir:/b" )'), "alternatives, so they need one scheme"),
        (HOP.format("hop"), "error: Deliver_To: an address is needed here"),
        (HOP.format('"discard:" Auth_User = x'), "warning: Auth_User: has no effect for discard:"),
        (HOP.format('"https://h/" XCLIENT = true'), "warning: XCLIENT: has no effect for https:"),
        (HOP.format('"https://h/" TLS_Verify = ca'), 'warning: TLS_Verify: "ca": others may receive the mail'),
        (HOP.format('"http://localhost/" TLS_Verify = ca'), "warning: TLS_Verify: has no effect for http:"),
        (
            HOP.format('"https://h/" TLS_Ciphers = "HIGH:TLS_AES_128_GCM_SHA256"'),
            "warning: TLS_Ciphers: TLS_AES_128_GCM_SHA256 has no effect for https: suites of TLS 1.3",
        ),
        (
            HOP.format('"nats://n/S/x" TLS_Ciphers = "TLS_AES_128_GCM_SHA256"'),
            "warning: TLS_Ciphers: TLS_AES_128_GCM_SHA256 has no effect for nats: suites of TLS 1.3",
        ),
        (HOP.format('"smtp://h" Auth_User = x'), "error: Auth_User: needs Auth_Password_File"),
        (HOP.format('"smtp://h" Auth_Password_File = /x'), "error: Auth_Password_File: needs Auth_User"),
        (
            HOP.format('"smtp://h" TLS = ifavailable Auth_User = x Auth_Password_File = /x'),
            "error: Auth_User: AUTH is never used without TLS",
        ),
        (
            HOP.format('"smtp://localhost" Auth_User = x Auth_Password_File = /x'),
            "error: Auth_User: AUTH is never used without TLS",
        ),
        (HOP.format('"lmtp:/l" TLS = required'), "error: Deliver_To: a Unix socket has no name that a certificate"),
        (HOP.format('"smtp://h" TLS = no'), 'warning: TLS: "no": mail may be read on the way'),
        (HOP.format('"smtp://h" TLS_Verify = ca'), 'warning: TLS_Verify: "ca": others may receive the mail'),
        (HOP.format('"smtps://h" TLS = no'), "error: TLS: smtps is TLS: leave it out"),
        (HOP.format('"smtp://h" TLS_Key = /k'), "error: TLS_Key: needs a TLS_Certificate"),
        (HOP.format('"smtp://h" TLS_Certificate = ( /a /b )'), "error: TLS_Certificate: one certificate is presented"),
        (HOP.format('"smtp://h" TLS_Fingerprints = x'), "expected sha256:"),
        (HOP.format('"nats://n/S/x" Monitor = "ftp://x"'), "expected http://host:port"),
        (HOP.format('"smtp://h" Require_TLS = true'), "error: Require_TLS is not valid in a Delivery"),
        ('TLS_CA = "/x"', "warning: TLS_CA is read in a Delivery alone: it has no effect"),
        ('Auth_User = "x"', "error: Auth_User is not valid in the global scope; it is in: Delivery"),
        (
            'Domain a.example { Deliver_To = "discard:" } Binding b { Domain a.example { Deliver_To = "maildir:/x" } }',
            "error: Deliver_To: Domain \"a.example\" has another value at <string>:1:33",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    found = problems(text)
    assert any(message in problem for problem in found), found


def test_the_documentation_says_which_options_a_scheme_has() -> None:
    page = (Path(__file__).parents[3] / "docs" / "delivery.md").read_text()
    table = page.partition("## Options by scheme")[2].partition("\n## ")[0]
    head, _, *rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    groups = [re.findall(r"`([a-z]+)", cell) for cell in head[1:]]
    assert sorted(scheme for group in groups for scheme in group) == sorted(READ_BY_SCHEME)
    documented: dict[str, set[str]] = {scheme: set() for scheme in READ_BY_SCHEME}
    for names, *cells in rows:
        for group, cell in zip(groups, cells, strict=True):
            assert cell in {"yes", "–"}, names
            for scheme in group if cell == "yes" else ():
                documented[scheme] |= {name.lower() for name in re.findall(r"`(\w+)`", names)}
    assert documented == {scheme: set(read) for scheme, read in READ_BY_SCHEME.items()}
    of_delivery = {field for field, each in OPTIONS.items() if DELIVERY in each.scopes}
    assert set().union(*READ_BY_SCHEME.values()) == of_delivery, "an option of Delivery that no scheme reads"


def test_a_delivery_takes_no_option_from_another_scope() -> None:
    conf = 'TLS_Ciphers = "HIGH" Deliver_To = "d" Delivery "d" { Deliver_To = "lmtp://h" Idle_Timeout = 3 }'
    target = parse_config(f"{conf} {LISTENER}").target("d")
    assert (target.settings.tls_ciphers, target.settings.idle_timeout) == ("DEFAULT", 3)


def test_domains_in_a_binding_mean_the_same_as_in_the_global_scope() -> None:
    config = parse_config(f"""
        Binding_Group "g" {{ TLS = "required"  Binding "b" {{
            Bind_Address = "192.0.2.1"
            Domain "a.example" {{ Deliver_To = "discard:" Max_Outbound_Connections = 3 }}
        }} }}
        Binding "other" {{ Domain "" {{ TLS = "no" }} }}
        Domain "*.b.example" {{ Verify_Recipients = false }}
        {LISTENER}
    """)
    found = {domain.key: domain.fields for domain in config.domains}
    assert found == {"a.example": {"deliver_to"}, "*.b.example": {"verify_recipients"}}
    told = [problem.message for problem in config.warnings]
    assert told[0].startswith("Binding_Group is a scope of Momentum's, of which triosmtp reads Domain alone")
    assert told[1].startswith("Binding is a scope of Momentum's, of which triosmtp reads Domain alone")
    assert told[2].startswith("Max_Outbound_Connections has no effect in a Domain")
    assert told[3].startswith("Binding is a scope of Momentum's that triosmtp does not implement")
    assert len(told) == 4


def test_the_caret_line_of_an_error_hides_the_password_of_a_url() -> None:
    (problem,) = problems('Deliver_To = "smtp://u:Gehe!m@h"')
    assert "Gehe!m" not in problem
    assert "smtp://********@h" in problem


@pytest.mark.parametrize(
    "url",
    [
        "smtp:u:Gehe!m@h", "smtp:/u:Gehe!m@h", "lmtp:u:Gehe!m@h", "u:Gehe!m@smtp://h", "smtp//u:Gehe!m@h",
        "imap://u:Gehe!m@h", "https:/u:Gehe!m@h/in", "nats:u:Gehe!m@h/S/x", "smtp:u:a@Gehe!m@h",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "text", ['Deliver_To = "{}"', 'Deliver_To = ( "discard:" "{}" )', HOP.format('"{}"'), 'Publish_Events = "{}"']
)
def test_so_does_an_error_about_a_url_that_is_malformed(text: str, url: str) -> None:
    found = problems(text.replace("{}", url))
    assert any("error: " in problem for problem in found)
    assert "Gehe!m" not in " ".join(found)
