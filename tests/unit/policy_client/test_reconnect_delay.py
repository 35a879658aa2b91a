"""The delays before a client connects again."""

from hypothesis import given
from hypothesis import strategies as st

from triosmtp.policy_client.reconnect_delay import FIRST, LONGEST, ReconnectDelay


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=20, max_size=20))
def test_delays_grow_at_random_from_the_first_to_the_longest(found: list[float]) -> None:
    numbers = iter(found)
    delay = ReconnectDelay(random=lambda: next(numbers))
    taken = [delay.take() for _ in found]
    longest = [min(LONGEST, FIRST * 2**number) for number in range(len(found))]
    assert all(most / 2 <= each <= most for each, most in zip(taken, longest, strict=True))


def test_only_a_connection_that_lasted_begins_anew() -> None:
    delay = ReconnectDelay(random=lambda: 1.0)
    assert [delay.take() for _ in range(3)] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert not delay.note_end(100)
    delay.note_connected(100)
    assert delay.note_end(100 + LONGEST / 2)
    assert delay.take() == 8 * FIRST, "a server that ends each connection at once is not asked more often"
    delay.note_connected(200)
    assert delay.note_end(200 + LONGEST)
    assert not delay.note_end(300)
    assert delay.take() == FIRST
