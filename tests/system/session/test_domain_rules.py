"""Rules by domain and by route: one key for each form of a domain, and no route for unknown clients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay_answers import CONF, OUTSIDER, codes

from triosmtp import Policy, Session
from triosmtp.config import OPTIONS, parse_config
from triosmtp.config.option import GLOBAL
from triosmtp.domain import DomainError, domain_key
from triosmtp.errors import ConfigError
from triosmtp.server.client_list import DomainList
from triosmtp.smtp import Address
from triosmtp.testing import open_memory_server

FORMS = ("<x@a.b\u00fccher.example>", "<x@A.B\u00dcCHER.example>", "<x@a.xn--bcher-kva.example>",
         "<x@a.XN--BCHER-KVA.EXAMPLE>", "<x@a_b.b\u00fccher.example>", "<x@a.b\u0075\u0308cher.example>")  # fmt: skip


@pytest.mark.parametrize("pattern", ["*.b\u00fccher.example", "*.B\u00dcCHER.example", "*.xn--bcher-kva.example"])
async def test_a_pattern_of_u_labels_holds_for_every_form(pattern: str) -> None:
    none = ["<x@b\u00fccher.example>", "<x@a.bucher.example>", "<x@altb\u00fccher.example>"]
    relay = f'Relay_Domains = ( "{pattern}" )'
    assert await codes(relay, [*FORMS, *none], utf8=True) == [250] * 6 + [550] * 3
    tls = f'Relay_Domains = ( "*" ) Require_TLS_For = ( "{pattern}" )'
    assert await codes(tls, [*FORMS, *none], utf8=True) == [530] * 6 + [250] * 3


async def test_characters_that_some_software_ignores_make_a_domain_invalid() -> None:
    options = 'Relay_Domains = ( "*" ) Require_TLS_For = ( "example.org" )'
    hidden = ["<x@example.org>", "<x@example.org.\u00ad>", "<x@exam\u00adple.org>", "<x@\u200bexample.org>",
              "<x@a.org.>", "<x@\uff45xample.org>"]  # fmt: skip
    assert await codes(options, hidden, utf8=True) == [530] + [553] * 5


async def test_one_literal_has_one_key() -> None:
    options = 'Relay_Domains = ( "[IPv6:2001:db8:0::1]" "[192.0.2.7]" )'
    forms = ["<x@[IPv6:2001:DB8::1]>", "<x@[ipv6:2001:db8:0:0:0:0:0:1]>", "<x@[192.0.2.7]>",
             "<x@[IPv6:::ffff:192.0.2.7]>", "<x@[192.0.2.8]>"]  # fmt: skip
    assert await codes(options, forms) == [250, 250, 250, 250, 550]


async def test_the_form_of_a_local_part_is_kept_and_changes_no_right() -> None:
    class Friend(Policy):
        async def validate_rcptto(self, session: Session, recipient: Address, parameters: object) -> None:
            if recipient == Address("abc..d.", "x.example"):
                session.variables["can_relay"] = "true"

    async with open_memory_server(CONF.format('Relay_Domains = ( "ours.example" )'), policy=Friend()) as server:
        for path, code in (("<abc..d.@x.example>", 250), ('<"abc..d."@x.example>', 250), ("<abc.d@x.example>", 550)):
            client = server.connect(peer=OUTSIDER)
            await client.read()
            await client.command("EHLO x")
            assert (await client.message("y..@my_host.example", [path[1:-1]], b"S: x\r\n\r\n")).code == code
    forms = [(m.sender, m.recipients[0]) for m in server.messages]
    assert forms == [
        ("y..@my_host.example", "abc..d.@x.example"), ("y..@my_host.example", '"abc..d."@x.example'),
    ]  # fmt: skip
    assert b"for <abc..d.@x.example>" in server.messages[0].trace


async def test_an_address_that_fills_a_line_is_accepted() -> None:
    local_part = "x" * 1990
    async with open_memory_server(CONF.format('Relay_Domains = ( "ours.example" )')) as server:
        client = server.connect(peer=OUTSIDER)
        await client.read()
        await client.command("EHLO x")
        reply = await client.message(f"{local_part}@example.net", [f"{local_part}@ours.example"], b"S: x\r\n\r\n")
        assert reply.code == 250
        await client.command("MAIL FROM:<>")
        assert (await client.command(f"RCPT TO:<{'x' * 2048}@ours.example>")).code == 500
    [message] = server.messages
    assert (message.sender, message.recipients) == (f"{local_part}@example.net", (f"{local_part}@ours.example",))
    assert b"for <" not in message.trace


DOMAIN_OPTIONS = sorted(
    option.name
    for option in OPTIONS.values()
    if option.type.name in {"list of domains", "domain", "host name"} and GLOBAL in option.scopes
)


def test_every_option_of_domains_is_known_here() -> None:
    assert {"Relay_Domains", "Require_TLS_For", "Relay_For_Sending_Domains", "Banner_Hostname"} < set(DOMAIN_OPTIONS)


@pytest.mark.parametrize("name", DOMAIN_OPTIONS)
@pytest.mark.parametrize(
    "text", ["example.org.", "exam\u00adple.org", "\uff45x.org", "a..b", "-a.example", "a b", "\u212aa.example"]
)
def test_a_domain_without_a_key_is_an_error(name: str, text: str) -> None:
    setting = f'{name} = "{text}"'
    if OPTIONS[name.lower()].scopes == ("Delivery",):
        setting = f'Deliver_To = d Delivery d {{ Deliver_To = "lmtp:/l" {setting} }}'
    with pytest.raises(ConfigError):
        parse_config(CONF.format(setting))


@pytest.mark.parametrize("text", ["example.org.", "exam\u00adple.org", "a..b", "a b"])
def test_a_host_name_of_a_delivery_without_a_key_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="EHLO_Hostname"):
        parse_config(CONF.format(f'Delivery "x" {{ Deliver_To = "smtp://127.0.0.1" EHLO_Hostname = "{text}" }}'))


@pytest.mark.parametrize("text", ["*b\u00fccher.example", "*.exam\u00adple.org"])
def test_a_pattern_that_no_key_can_match_is_an_error(text: str) -> None:
    for option in (f'Relay_Domains = ( "{text}" )', f'TLS_Relay_Clients = ( "dns:{text}" )'):
        with pytest.raises(ConfigError):
            parse_config(CONF.format(option))


def test_a_host_name_of_u_labels_is_sent_as_a_labels() -> None:
    config = parse_config('Banner_Hostname = "mx.b\u00fccher.example" ESMTP_Listener { Listen ":25" { } }')
    assert config.resolve(config.listens[0], None).banner_hostname == "mx.xn--bcher-kva.example"


@given(st.text(max_size=20), st.sampled_from(["b\u00fccher.example", "example.org", "\u4f8b\u5b50"]))
def test_a_list_of_domains_is_asked_by_key_alone(text: str, pattern: str) -> None:
    try:
        key = domain_key(text)
    except DomainError:
        return
    held = DomainList.from_patterns((pattern, f"*.{pattern}"))
    assert (key in held) is f".{key}".endswith(f".{domain_key(pattern)}")
