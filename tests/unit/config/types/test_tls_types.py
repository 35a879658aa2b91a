"""The TLS options: what each takes, what each refuses, and that what is written reads as the same again."""

from pathlib import Path

import pytest
from config_text import LISTENER, option_error, read_option

from triosmtp.config import OPTIONS, RelayClient, find_query, get, parse_config
from triosmtp.errors import ConfigError

HEX = "0123456789abcdef" * 4


COLONS = ":".join(HEX[i : i + 2].upper() for i in range(0, 64, 2))


BOTH = ("TLSv1.2", "TLSv1.3")


DIGITS = "expected 64 hexadecimal digits (SHA-256; a colon after every two is tolerated)"


LOWERED = "and OpenSSL's security level is lowered to 0 for every connection that this holds for"


GAP = (
    "TLSv1.1 and TLSv1.2 missing between TLSv1.0 and TLSv1.3: such a gap keeps out clients that would agree on "
    "another version"
)


ALL_FOUR = ("TLSv1.0", "TLSv1.1", *BOTH)


@pytest.mark.parametrize(
    ("setting", "value", "written"),
    [
        ("TLS_Certificate = /a.pem", (Path("/a.pem"),), '"/a.pem"'),
        ("TLS_Certificate = ( /a.pem '/b c.pem' )", (Path("/a.pem"), Path("/b c.pem")), '( "/a.pem" "/b c.pem" )'),
        ("TLS_Certificate = ( /a.pem )", (Path("/a.pem"),), '"/a.pem"'),
        ("TLS_Certificate = None", (), "none"),
        ("TLS_Certificate = ( )", (), "none"),
        ("TLS_Certificate = ./none", (Path("none"),), None),
        ("TLS_Key = none", (), "none"),
        ("TLS_Key = ( /a.key /b.key )", (Path("/a.key"), Path("/b.key")), '( "/a.key" "/b.key" )'),
        ("TLS_Key_Password_File = /secret", (Path("/secret"),), '"/secret"'),
        ("TLS_OCSP_Response = ( /a.der /b.der )", (Path("/a.der"), Path("/b.der")), '( "/a.der" "/b.der" )'),
        ("TLS_Client_CA = /ca.pem TLS_Client_CRL = ( /a.crl )", (Path("/a.crl"),), '"/a.crl"'),
        ("TLS_Protocols = +ALL", BOTH, '"+ALL"'),
        ('TLS_Protocols = "+ALL:-SSLv2:-SSLv3"', BOTH, '"+ALL"'),
        ("TLS_Protocols = +tlsv1.3:+TLSV1.2", BOTH, '"+ALL"'),
        ("TLS_Protocols = +ALL:-TLSv1.0:-TLSv1.1", BOTH, '"+ALL"'),
        ("TLS_Protocols = +ALL:-TLSv1.2", ("TLSv1.3",), '"+TLSv1.3"'),
        ("TLS_Protocols = '+ALL : -ALL : +TLSv1.2'", ("TLSv1.2",), '"+TLSv1.2"'),
        ("TLS_DHParams_File = /dh.pem", Path("/dh.pem"), '"/dh.pem"'),
        ("TLS_Enable_DHE_Ciphers = off", False, "false"),
        ("TLS_Allow_Renegotiation = yes", True, "true"),
        ("TLS_Send_Client_CA_Names = no", False, "false"),
        ("TLS_Verify_Depth = 0", 0, "0"),
        ("TLS_Verify_Depth = 100", 100, "100"),
        ('TLS_EC_Curve_Names = "X25519MLKEM768:P-256"', ("X25519MLKEM768", "P-256"), '"X25519MLKEM768:P-256"'),
        ("TLS_Handshakes_Per_Peer = 20/60", (20, 60.0), '"20/60"'),
        ('TLS_Handshakes_Per_Peer = "003/0.5"', (3, 0.5), '"3/0.5"'),
        ("TLS_Handshakes_Per_Peer = OFF", None, "off"),
        ("TLS_Handshakes_Max = 0", 0, "0"),
    ],
)
def test_values(setting: str, value: object, written: str | None) -> None:
    name, _, text = setting.rpartition(" TLS_")[2].partition(" = ")
    name = f"TLS_{name.removeprefix('TLS_')}"
    config = parse_config(f"{setting}\n{LISTENER}")
    assert config.warnings == ()
    assert getattr(config.resolve(config.listens[0], None), name.lower()) == value, text
    line = get(config.root, OPTIONS[name.lower()])
    assert line is not None
    if written is not None:
        assert line == f"{name} = {written}  # <string>:1"
        again = parse_config(f"{setting.partition(name)[0]}{line}\n{LISTENER}")
        assert again.resolve(again.listens[0], None) == config.resolve(config.listens[0], None)


@pytest.mark.parametrize(
    ("text", "client", "written"),
    [
        (f"sha256:{HEX}", RelayClient("sha256", HEX), f"sha256:{HEX}"),
        (f"SHA256:{COLONS}", RelayClient("sha256", HEX), f"sha256:{HEX}"),
        (f"spki:{HEX.upper()}", RelayClient("spki", HEX), f"spki:{HEX}"),
        ("dns:MX.Partner.Example", RelayClient("dns", "mx.partner.example"), "dns:mx.partner.example"),
        ("dns:*.Bücher.Example", RelayClient("dns", "*.xn--bcher-kva.example"), "dns:*.xn--bcher-kva.example"),
        ("dns:*partner.example", RelayClient("dns", "*partner.example"), "dns:*partner.example"),
        ("email:Relay@Partner.Example", RelayClient("email", "Relay@partner.example"), "email:Relay@partner.example"),
    ],
)
def test_relay_clients(text: str, client: RelayClient, written: str) -> None:
    around = "TLS_Client_CA = /ca.pem ESMTP_Listener { TLS_Verified_Peer_Can_Relay = true Listen ':25' { } }"
    config = parse_config(f"TLS_Relay_Clients = '{text}' {around}")
    settings = config.resolve(config.listens[0], None)
    assert config.warnings == ()
    assert settings.tls_relay_clients == (client,)
    assert get(config.root, OPTIONS["tls_relay_clients"]) == f'TLS_Relay_Clients = ( "{written}" )  # <string>:1'
    again = parse_config(f'TLS_Relay_Clients = ( "{written}" ) {around}')
    assert again.resolve(again.listens[0], None) == settings


def test_a_list_of_relay_clients_keeps_its_order() -> None:
    listener = "ESMTP_Listener { TLS_Verified_Peer_Can_Relay = true Listen ':25' { } }"
    config = parse_config(f'TLS_Relay_Clients = ( "spki:{HEX}" "sha256:{HEX}" ) {listener}')
    found = config.resolve(config.listens[0], None)
    assert [client.kind for client in found.tls_relay_clients] == ["spki", "sha256"]
    assert found.grants_by_fingerprint


@pytest.mark.parametrize(
    ("clients", "can_relay", "asks"),
    [
        (f"sha256:{HEX}", True, True),
        (f"spki:{HEX}", True, True),
        (f"spki:{HEX}", False, False),
        ("dns:a.b", True, False),
    ],
)
def test_asks_by_fingerprint(clients: str, can_relay: bool, asks: bool) -> None:
    boolean = f"TLS_Verified_Peer_Can_Relay = {str(can_relay).lower()}"
    config = parse_config(f"TLS_Relay_Clients = ( '{clients}' ) ESMTP_Listener {{ {boolean} Listen ':25' {{ }} }}")
    assert config.resolve(config.listens[0], None).grants_by_fingerprint is asks


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("TLS_Certificate = ( /a.pem none )", "none stands alone, not in a list; a file of that name is ./none"),
        ("TLS_Certificate = ( /a.pem '' )", 'expected the path of a file or folder, found ""'),
        ("TLS_Certificate = [ a = b ]", "expected the path of a file or folder, found a dictionary"),
        ("TLS_Key = ( ( /a ) )", "expected the path of a file or folder, found a list"),
        ("TLS_Key_Password_File = ''", 'expected the path of a file or folder, found ""'),
        ("TLS_OCSP_Response = ''", 'expected the path of a file or folder, found ""'),
        ("TLS_Client_CRL = ''", 'expected the path of a file or folder, found ""'),
        ("TLS_DHParams_File = ''", 'expected the path of a file or folder, found ""'),
        ("TLS_Protocols = ''", 'expected +base[:+-name…], such as +ALL or +TLSv1.2:+TLSv1.3, found ""'),
        ("TLS_Protocols = ALL", 'expected +base[:+-name…], such as +ALL or +TLSv1.2:+TLSv1.3, found "ALL"'),
        ("TLS_Protocols = -SSLv3", 'expected +base[:+-name…], such as +ALL or +TLSv1.2:+TLSv1.3, found "-SSLv3"'),
        ("TLS_Protocols = +ALL:", 'expected +base[:+-name…], such as +ALL or +TLSv1.2:+TLSv1.3, found "+ALL:"'),
        (
            "TLS_Protocols = '+ALL,-SSLv3'",
            'expected ALL, SSLv2, SSLv3, TLSv1.0, TLSv1.1, TLSv1.2 or TLSv1.3, found "ALL,-SSLv3"',
        ),
        ("TLS_Protocols = +TLSv1", 'found "TLSv1"; did you mean TLSv1.3?'),
        ("TLS_Protocols = +TLS1.2", 'found "TLS1.2"; did you mean TLSv1.2?'),
        ("TLS_Protocols = ( +TLSv1.2 +TLSv1.3 )", "such as +ALL or +TLSv1.2:+TLSv1.3, found a list"),
        ("TLS_Protocols = +SSLv3", "SSLv3 can be removed, never added: it is broken, and OpenSSL has it no more"),
        ("TLS_Protocols = +ALL:+sslv2", "SSLv2 can be removed, never added: it is broken, and OpenSSL has it no more"),
        ("TLS_Protocols = +ALL:-ALL", '"+ALL:-ALL" leaves no version of TLS'),
        ("TLS_Protocols = +TLSv1.2:-TLSv1.2", '"+TLSv1.2:-TLSv1.2" leaves no version of TLS'),
        ("TLS_Enable_DHE_Ciphers = maybe", "expected true or false"),
        ("TLS_Allow_Renegotiation = 2", "expected true or false"),
        ("TLS_Send_Client_CA_Names = all", "expected true or false"),
        ("TLS_Verify_Depth = -1", 'expected a whole number, 0 or more, found "-1"'),
        ("TLS_Verify_Depth = 101", 'expected a whole number from 0 to 100, found "101"'),
        ("TLS_Handshakes_Per_Peer = 20", 'or off: write "20/60" for 20 a minute, found "20"'),
        ("TLS_Handshakes_Per_Peer = 0/60", 'expected n/seconds, such as "20/60", or off, found "0/60"'),
        ("TLS_Handshakes_Per_Peer = 20/0", 'expected n/seconds, such as "20/60", or off, found "20/0"'),
        ("TLS_Handshakes_Per_Peer = 20/1m", 'or off: write "20/60", found "20/1m"'),
        ("TLS_Handshakes_Per_Peer = ( 20 60 )", 'expected n/seconds, such as "20/60", or off, found a list'),
        ("TLS_Handshakes_Max = many", "expected a whole number, 0 or more"),
        ("TLS_Relay_Clients = partner.example", 'expected sha256:…, spki:…, dns:… or email:…, found "partner.example"'),
        ("TLS_Relay_Clients = sha-256:00", 'found "sha-256:00"; did you mean sha256:?'),
        ("TLS_Relay_Clients = dns", "expected sha256:…, spki:…, dns:… or email:…, found \"dns\"; did you mean dns:?"),
        ("TLS_Relay_Clients = ( [ a = b ] )", "expected sha256:…, spki:…, dns:… or email:…, found a dictionary"),
        ("TLS_Relay_Clients = sha256:", f"sha256: {DIGITS}, found 0 of them"),
        (f"TLS_Relay_Clients = sha256:{HEX[:40]}", "found 40 of them"),
        (f"TLS_Relay_Clients = spki:{HEX[:-1]}g", f'spki: {DIGITS}, found "{HEX[:-1]}g"'),
        (f"TLS_Relay_Clients = sha256:{HEX[:3]}:{HEX[3:]}", "sha256: expected 64 hexadecimal digits"),
        ("TLS_Relay_Clients = dns:", "dns: expected a domain, with a wildcard only at its left end"),
        ("TLS_Relay_Clients = 'dns:*'", '*.example.org, found "*"'),
        ("TLS_Relay_Clients = dns:a.*.example", 'found "a.*.example"'),
        ("TLS_Relay_Clients = 'dns:a b'", 'found "a b"'),
        (f"TLS_Relay_Clients = dns:{'a.' * 200}a", "dns: expected a domain"),
        (
            "TLS_Relay_Clients = email:partner.example",
            'email: expected a mail address, such as relay@example.org, found "partner.example"',
        ),
        ("TLS_Relay_Clients = email:*@partner.example", 'found "*@partner.example"'),
        ("TLS_Relay_Clients = email:a@", 'found "a@"'),
    ],
)  # fmt: skip
def test_bad_values(setting: str, told: str) -> None:
    name = setting.partition(" ")[0]
    with pytest.raises(ConfigError) as caught:
        parse_config(f"{setting}\n{LISTENER}")
    (problem,) = caught.value.problems
    assert problem.message.startswith(f"{name}: ")
    assert told in problem.message


def test_a_bad_client_is_shown_with_a_caret() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f'TLS_Relay_Clients = ( "dns:*.partner.example" "email:nobody" )\n{LISTENER}', "e.conf")
    assert str(caught.value) == (
        "e.conf:1:47: error: TLS_Relay_Clients: email: expected a mail address, such as relay@example.org, "
        'found "nobody"\n'
        '    TLS_Relay_Clients = ( "dns:*.partner.example" "email:nobody" )\n'
        "                                                  ^"
    )


@pytest.mark.parametrize(
    ("text", "value", "written", "warnings"),
    [
        (
            "+ALL:+TLSv1.1:+TLSv1.0",
            ALL_FOUR,
            '"+TLSv1.0:+TLSv1.1:+TLSv1.2:+TLSv1.3"',
            [f"TLS_Protocols: TLSv1.0 and TLSv1.1 are obsolete (RFC 8996), {LOWERED}"],
        ),
        (
            "+ALL:+TLSv1.1",
            ALL_FOUR[1:],
            '"+TLSv1.1:+TLSv1.2:+TLSv1.3"',
            [f"TLS_Protocols: TLSv1.1 is obsolete (RFC 8996), {LOWERED}"],
        ),
        (
            "+TLSv1.3:+TLSv1.0",
            ("TLSv1.0", "TLSv1.3"),
            '"+TLSv1.0:+TLSv1.3"',
            [f"TLS_Protocols: TLSv1.0 is obsolete (RFC 8996), {LOWERED}", f"TLS_Protocols: {GAP}"],
        ),
    ],
)  # fmt: skip
def test_protocols_that_are_warned_of(text: str, value: object, written: str, warnings: list[str]) -> None:
    config = parse_config(f"TLS_Protocols = {text}\n{LISTENER}")
    assert config.resolve(config.listens[0], None).tls_protocols == value
    assert [problem.message for problem in config.warnings] == warnings
    assert all(str(problem.position) == "<string>:1:17" for problem in config.warnings)
    assert get(config.root, OPTIONS["tls_protocols"]) == f"TLS_Protocols = {written}  # <string>:1"
    again = parse_config(f"TLS_Protocols = {written}\n{LISTENER}")
    assert again.resolve(again.listens[0], None).tls_protocols == value


@pytest.mark.parametrize(
    "name", ["TLS_DHParams_File", "TLS_EC_Curve_Names", "TLS_Enable_DHE_Ciphers", "TLS_Handshakes_Max"]
)
@pytest.mark.parametrize("scope", ["ESMTP_Listener", "Pathway 'p'", "Pathway_Group 'g'"])
def test_an_option_for_the_global_scope_alone(name: str, scope: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"{scope} {{ {name} = 1 }}\n{LISTENER}")
    (problem,) = caught.value.problems
    article = "an" if scope == "ESMTP_Listener" else "a"
    assert problem.message == f"{name} is not valid in {article} {scope.partition(' ')[0]}; it is in: global"


def test_off_for_a_peer_takes_away_an_inherited_rate() -> None:
    peer = 'Peer "::1" { TLS_Handshakes_Per_Peer = off }'
    config = parse_config(f'TLS_Handshakes_Per_Peer = 1/60 ESMTP_Listener {{ Listen ":25" {{ {peer} }} }}')
    assert [each.tls_handshakes_per_peer for each in config.variants(config.listens[0])] == [(1, 60.0), None]
    words = ["ESMTP_Listener", "Listen", ":25", "Peer", "::1", "TLS_Handshakes_Per_Peer"]
    query = find_query(config, words)
    assert query.settings(config).tls_handshakes_per_peer is None


SUITES = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"


@pytest.mark.parametrize(
    "text",
    [
        "TLSv13_Ciphersuites = {} ESMTP_Listener {{ Listen ':25' {{ }} }}",
        "ESMTP_Listener {{ TLSv13_Ciphersuites = {} Listen ':25' {{ }} }}",
        "ESMTP_Listener {{ Listen ':25' {{ tlsv13_ciphersuites = {} }} }}",
    ],
)
def test_tlsv13_ciphersuites(text: str) -> None:
    config = parse_config(text.format(f'"{SUITES}"'))
    assert config.warnings == ()
    assert config.resolve(config.listens[0], None).tlsv13_ciphersuites == SUITES


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('TLSv13_Ciphersuites = ""', "suites of TLS 1.3"),
        ('TLSv13_Ciphersuites = "TLS_AES_128_GCM_SHA256:"', "suites of TLS 1.3"),
        ('TLSv13_Ciphersuites = "HIGH"', "belongs into TLS_Ciphers"),
        ('TLSv13_Ciphersuites = "TLS_AES_128_GCM_SHA256:ECDHE-RSA-AES128-SHA"', "belongs into TLS_Ciphers"),
        ('TLSv13_Ciphersuites = "TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384"', "suites of TLS 1.3"),
        ('TLS_EC_Curve_Names = ""', "names of groups"),
        ('TLS_EC_Curve_Names = "P-256: P-384"', "names of groups"),
        ('TLS_EC_Curve_Names = "?P-256"', "names of groups"),
        ('TLS_EC_Curve_Names = "P-256/P-384"', "names of groups"),
    ],
)
def test_lists_of_names_that_are_none(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"{setting}\n{LISTENER}")
    (problem,) = caught.value.problems
    assert message in problem.message


@pytest.mark.parametrize(
    "ciphers", ["TLS_AES_128_GCM_SHA256", "DEFAULT:TLS_AES_128_GCM_SHA256", "HIGH TLS_CHACHA20_POLY1305_SHA256"]
)
@pytest.mark.parametrize("policy", [False, True])
def test_suites_of_tls_1_3_are_valid_in_one_option_only(ciphers: str, policy: bool) -> None:
    both = f'TLS_Ciphers = "{ciphers}"\nTLSv13_Ciphersuites = "{SUITES}"'
    text = f"Policy_Listener {{ {both}\n Listen '/run/p' {{ }} }}\n{LISTENER}" if policy else f"{both}\n{LISTENER}"
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert any("names suites of TLS 1.3, too" in each.message for each in caught.value.problems)
    parse_config(text.replace(f'"{ciphers}"', '"DEFAULT"'))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("TLS_Ciphers", '"ECDHE+AESGCM:!aNULL:TLS_AES_128_GCM_SHA256"', "ECDHE+AESGCM:!aNULL:TLS_AES_128_GCM_SHA256"),
        ("TLS_Certificate", "/cert.pem", (Path("/cert.pem"),)),
        ("TLS_Certificate", '"NONE"', ()),
    ],
)  # fmt: skip
def test_values_in_a_listen(name: str, text: str, value: object) -> None:
    assert read_option(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("TLS_Certificate", '""', "expected the path of a file"),
        ("TLS_Key", '""', "expected the path of a file"),
        ("TLS_Ciphers", '""', "expected an OpenSSL cipher list"),
        ("TLS_Ciphers", "NORMAL", "is a GnuTLS priority string"),
        ("TLS_Ciphers", '"NORMAL:-VERS-SSL3.0"', "is a GnuTLS priority string"),
        ("TLS_Ciphers", '"SECURE256:+SECURE128"', "is a GnuTLS priority string"),
    ],
)
def test_bad_values_in_a_listen(name: str, text: str, told: str) -> None:
    assert told in option_error(name, text)
