"""Macros of scripts."""

from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from triosmtp.lua.api.macro import MacroValues, expand_macro

VALUES = MacroValues(
    connection={"ehlo_domain": "client.example"},
    message={"key": "%{i}"},
    address=ip_address("192.0.2.3"),
    helo="client.example",
    sender=("strong-bad", "email.example.com"),
    now=datetime(2026, 11, 30, 21, 0, tzinfo=UTC),
)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("%{vctx_conn:ehlo_domain}|%{vctx_mess:key}|%{vctx_conn:none}|", "client.example|%{i}||"),
        ("%{rfc822:date}", "Mon, 30 Nov 2026 21:00:00 +0000"),
        ("%{i} %%{i} %{unknown} %{spfv1:q} %{rfc822:x} %", "192.0.2.3 %{i} %{unknown} %{spfv1:q} %{rfc822:x} %"),
        ("%{spfv1:s} %{spfv1:o} %{spfv1:h}", "strong-bad@email.example.com email.example.com client.example"),
        ("%{spfv1:d2} %{spfv1:dr} %{spfv1:d2r} %{spfv1:l-} %{spfv1:lr-}",
         "example.com com.example.email example.email strong.bad bad.strong"),
        ("%{spfv1:ir}.%{spfv1:v} %{spfv1:c} %{spfv1:p}", "3.2.0.192.in-addr 192.0.2.3 unknown"),
        ("%{spfv1:t}", "1796072400"),
        ("%{spfv1:d0}", "%{spfv1:d0}"),
    ],
)  # fmt: skip
def test_macros_are_expanded_once(text: str, expanded: str) -> None:
    assert expand_macro(text, VALUES) == expanded


def test_the_null_path_and_ipv6_follow_rfc_7208() -> None:
    values = MacroValues(
        connection={}, message={}, address=ip_address("2001:db8::cb01"), helo="h.example", sender=("", ""),
        now=VALUES.now,
    )  # fmt: skip
    assert expand_macro("%{spfv1:s} %{spfv1:v} %{spfv1:c}", values) == "postmaster@h.example ip6 2001:db8::cb01"
    nibbles = "2.0.0.1.0.d.b.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.c.b.0.1"
    assert expand_macro("%{spfv1:i}", values) == nibbles


def test_the_result_is_bounded() -> None:
    values = MacroValues(
        connection={"x": "y" * 1000}, message={}, address=None, helo="", sender=("", ""), now=VALUES.now
    )
    with pytest.raises(ValueError, match="too long"):
        expand_macro("%{vctx_conn:x}" * 2000, values)
