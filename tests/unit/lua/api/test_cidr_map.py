"""Maps of networks, from files of rbldnsd."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from triosmtp.lua.api.cidr_map import CidrError, CidrMap, CidrOptions

FILE = """
# a comment
$SOA 0 ns.example admin.example 0 600 300 3600 300
10.0.0.0/8:ten
10.1/16:ten-one
!10.1.9
10.1.9.7 :127.0.0.7:seven $
192.0.2.1
192.0.2.2:5:five
192.0.2.3:127.0.0.9
:127.0.0.4:the default
198.51.100
198.51.100.128/25 :6:
2001:db8::/32 :v6
2001:db8:1::1 :127.0.0.11:one
"""


def opened(path: Path, text: str = FILE, **options: Any) -> CidrMap:
    path.write_text(text)
    return CidrMap.open(CidrOptions(source=path, **options), 0.0)


@pytest.mark.parametrize(
    ("address", "a", "txt"),
    [
        ("10.200.0.1", "127.0.0.2", "ten"),
        ("10.1.2.3", "127.0.0.2", "ten-one"),
        ("10.1.9.1", None, None),
        ("10.1.9.7", "127.0.0.7", "seven $"),
        ("192.0.2.1", "127.0.0.2", ""),
        ("192.0.2.2", "127.0.0.5", "five"),
        ("192.0.2.3", "127.0.0.9", "127.0.0.9"),
        ("198.51.100.9", "127.0.0.4", "the default"),
        ("198.51.100.129", "127.0.0.6", "the default"),
        ("2001:db8::9", "127.0.0.4", "v6"),
        ("2001:db8:1::1", "127.0.0.11", "one"),
        ("2001:db9::1", None, None),
        ("::ffff:10.200.0.1", "127.0.0.2", "ten"),
        ("203.0.113.1", None, None),
    ],
)
def test_the_smallest_network_decides(tmp_path: Path, address: str, a: str | None, txt: str | None) -> None:
    asked = ip_address(address)
    assert opened(tmp_path / "nets", value="a").query(asked) == a
    assert opened(tmp_path / "nets", value="txt").query(asked) == txt


def test_a_default_is_for_what_is_not_there(tmp_path: Path) -> None:
    networks = opened(tmp_path / "nets", default="none")
    assert networks.query(ip_address("203.0.113.1")) == networks.query(None) == "none"
    assert CidrMap.open(CidrOptions(kind="empty", default=""), 0.0).query(ip_address("10.0.0.1")) == ""


def test_a_dollar_is_the_address_if_that_is_set(tmp_path: Path) -> None:
    assert opened(tmp_path / "nets", interpolate=True).query(ip_address("10.1.9.7")) == "seven 10.1.9.7"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("10.0.0.0/33:x", "nets:1: "),
        ("\nnetwork:x", "nets:2: "),
        ("1.2.3.4.5:x", "nets:1: '1.2.3.4.5' is not a network"),
        ("300.1:x", "nets:1: "),
        ("2001:db8::/200 :x", "nets:1: "),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(CidrError) as caught:
        opened(tmp_path / "nets", text)
    assert error in str(caught.value)


def test_a_file_that_is_missing_or_none_is_an_error(tmp_path: Path) -> None:
    for path, text in ((tmp_path / "missing", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(CidrError, match=text):
            CidrMap.open(CidrOptions(source=path), 0.0)


def test_a_reload_that_fails_keeps_what_was_read(tmp_path: Path) -> None:
    networks = opened(tmp_path / "nets", "10.0.0.1:old\n", refresh=60.0)
    assert networks.due == 60.0
    (tmp_path / "nets").write_text("10.0.0.1:new\nmalformed\n")
    with pytest.raises(CidrError):
        networks.reload(100.0)
    assert networks.query(ip_address("10.0.0.1")) == "old"
    assert networks.due == 160.0
    (tmp_path / "nets").write_text("10.0.0.1:new\n")
    networks.reload(200.0)
    assert networks.query(ip_address("10.0.0.1")) == "new"
