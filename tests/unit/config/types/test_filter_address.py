"""The addresses of filters."""

from hypothesis import given
from hypothesis import strategies as st

from triosmtp.config import parse_filter_address


@given(st.one_of(st.text(), st.builds("policyd:{}:{}".format, st.sampled_from(["unix", "inet"]), st.text())))
def test_every_address_that_is_read_is_written_in_the_same_form(text: str) -> None:
    try:
        address = parse_filter_address(text)
    except ValueError:
        return
    assert parse_filter_address(str(address)) == address
