"""The keys of greylisting."""

from ipaddress import ip_address

from triosmtp.client_checks.greylist import keys_of
from triosmtp.smtp import Address

SENDER, RECIPIENT = Address("a", "example.org"), Address("b", "example.com")


def test_hosts_of_one_network_have_the_same_keys_and_others_have_not() -> None:
    keys = keys_of(ip_address("192.0.2.1"), SENDER, RECIPIENT)
    assert keys == keys_of(ip_address("192.0.2.250"), SENDER, Address("B", "Example.COM"))
    other = keys_of(ip_address("192.0.3.1"), SENDER, RECIPIENT)
    assert (keys.message == other.message, keys.client == other.client) == (False, False)
    null = keys_of(ip_address("192.0.2.1"), Address.NULL, RECIPIENT)
    assert (keys.message == null.message, keys.client == null.client) == (False, True)
    six = keys_of(ip_address("2001:db8::1"), SENDER, RECIPIENT)
    assert six == keys_of(ip_address("2001:db8::ffff:1"), SENDER, RECIPIENT)
    assert six != keys_of(ip_address("2001:db8:0:1::1"), SENDER, RECIPIENT)


def test_keys_tell_nothing_about_the_addresses() -> None:
    keys = keys_of(ip_address("192.0.2.1"), SENDER, RECIPIENT)
    assert (len(keys.message), len(keys.client)) == (32, 32)
    assert keys.message.isalnum()
