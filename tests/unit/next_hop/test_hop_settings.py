"""Settings of a hop: its addresses as text, and our own name."""

import pytest

from triosmtp.next_hop import HopAddress, hop_settings
from triosmtp.next_hop.hop_settings import own_name


def test_addresses() -> None:
    assert str(HopAddress(path="/run/lmtp", lmtp=True)) == "lmtp:/run/lmtp"
    assert str(HopAddress(host="::1", port=25)) == "smtp://[::1]:25"
    assert str(HopAddress(host="mx.example", port=465, implicit_tls=True)) == "smtps://mx.example:465"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mx.example.org", "mx.example.org"), ("a b", "localhost"), ("", "localhost"), ("\u00fc", "localhost")],
)
def test_the_name_of_this_host(name: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hop_settings, "gethostname", lambda: name)
    assert own_name() == expected
