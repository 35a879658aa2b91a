"""The sites of DNSBL_Sites, and the threshold of good clients."""

import pytest

import triosmtp
from triosmtp.config.types.dnsbl_site import DNSBL_SITES, DNSBLSite
from triosmtp.errors import ConfigError


def read(option: str, value: str) -> triosmtp.Config:
    return triosmtp.parse_config(f'{option} = {value} ESMTP_Listener {{ Listen ":25" {{ }} }}')


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("zen.example", "zen.example"),
        ("Zen.Example*3", "zen.example*3"),
        ("zen.example*+3", "zen.example*3"),
        ("zen.example*1", "zen.example"),
        ("zen.example=127.0.0.4", "zen.example=127.0.0.4"),
        ("zen.example=127.0.0.[2..11]*-2", "zen.example=127.0.0.[2..11]*-2"),
        ("zen.example=127.0.[0..255].[1;3;5..9]", "zen.example=127.0.[0..255].[1;3;5..9]"),
    ],
)
def test_a_site_is_read_and_written(text: str, written: str) -> None:
    (site,) = read("DNSBL_Sites", f'"{text}"').base.dnsbl_sites
    assert str(site) == written
    assert isinstance(site, DNSBLSite)
    assert DNSBL_SITES.write((site,)) == f'( "{written}" )'


@pytest.mark.parametrize(
    "text",
    [
        "", "*3", "=127.0.0.1", "zen.example*", "zen.example*x", "zen.example*99999", "zen.example=", "zen..example",
        "zen.example=127.0.0", "zen.example=127.0.0.256", "zen.example=127.0.0.[3..2]", "zen.example=127.0.0.[]",
        "zen.example=127.0.0.[1..2..3]", "zen.example=127.0.0.[1;]", "zen.example=127.0.0.1.2", "zen.example=a.b.c.d",
        "zen.example=127.0.0.1=127.0.0.2", "a b", "127.0.0.[2",
    ],
)  # fmt: skip
def test_what_is_no_site_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a site as "):
        read("DNSBL_Sites", f'"{text}"')


def test_an_octet_is_within_its_ranges() -> None:
    (site,) = read("DNSBL_Sites", '"zen.example=127.0.0.[2;4..6]"').base.dnsbl_sites
    assert site.answers is not None
    assert [octet for octet in range(256) if bytes([127, 0, 0, octet]) in site.answers] == [2, 4, 5, 6]
    assert bytes([127, 0, 1, 4]) not in site.answers


@pytest.mark.parametrize("text", ["1", "-", "x", "-0x1", "--1", "1.5"])
def test_the_threshold_of_good_clients_is_0_or_less(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a whole number, 0 or less"):
        read("DNSBL_Allow_Threshold", text)
    assert read("DNSBL_Allow_Threshold", "-4").base.dnsbl_allow_threshold == -4
