"""Consumer scopes: what they need, and their errors."""

import pytest

from triosmtp.config import parse_config
from triosmtp.errors import ConfigError

QUEUE = 'Delivery "queue" { Deliver_To = "nats://n1/MAIL/mail.in" } Delivery "hop" { Deliver_To = "lmtp:/run/lmtp" }'
RIGHT = 'Read_From = "queue" Deliver_To = "hop" Failure_Subject = "mail.failed"'


def test_a_consumer_needs_no_listen() -> None:
    config = parse_config(f'{QUEUE} Consumer "c" {{ {RIGHT} }}')
    settings = config.consumers["c"]
    assert (settings.read_from, settings.deliver_to, settings.failure_subject) == ("queue", ("hop",), "mail.failed")
    assert (settings.durable_name, settings.retry_delays[0], settings.message_expiration) == ("triosmtp", 60.0, 345600)
    assert not config.warnings  # neither Delivery counts as unused


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "needs Read_From and Deliver_To and Failure_Subject"),
        ('Deliver_To = "hop" Failure_Subject = "x"', "needs Read_From"),
        (RIGHT.replace('"queue"', '"quue"'), 'Read_From: there is no Delivery "quue"'),
        (RIGHT.replace('"queue"', '"hop"'), 'Delivery "hop" has no nats:// address'),
        (RIGHT.replace('"hop"', '"queue"'), "expected a target of"),
        (RIGHT.replace('"hop"', '( "hop" "maildir:/x" )'), "a Consumer has one target"),
        (RIGHT.replace('"hop"', '"nothing"'), 'there is no Delivery "nothing"'),
        (RIGHT.replace("mail.failed", "mail.>"), "a subject without wildcards"),
        (RIGHT.replace("mail.failed", "mail.in"), "Failure_Subject: belongs to mail.in of Read_From"),
        (RIGHT.replace("mail.failed", "mail.in.failed"), "Failure_Subject: belongs to mail.in of Read_From"),
        (RIGHT + ' Report_To = "nothing"', 'Report_To: there is no Delivery "nothing"'),
        (RIGHT + ' Report_To = "x:y"', "Report_To: expected"),
        (RIGHT + ' Report_To = "discard:"', "Report_To: expected a target of"),
        (RIGHT + " Retry_Delays = ( )", "Retry_Delays: needs one value"),
        (RIGHT + " Concurrency = 0", "Concurrency: needs a number above 0"),
        (RIGHT + ' Durable_Name = "a.b"', "1 to 64 characters"),
    ],
)
def test_errors_are_named(options: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f'{QUEUE} Consumer "c" {{ {options} }}')
    assert any(expected in str(each) for each in caught.value.problems), [str(each) for each in caught.value.problems]


@pytest.mark.parametrize(
    ("target", "concurrency", "warned"),
    [("hop", 21, True), ("hop", 20, False), ("lmtp:/run/lmtp", 21, False), ("few", 3, True), ("box", 99, False)],
)
def test_a_concurrency_that_the_target_does_not_allow_is_a_warning(target: str, concurrency: int, warned: bool) -> None:
    more = 'Delivery "few" { Deliver_To = "lmtp:/x" Max_Outbound_Connections = 2 }'
    more += 'Delivery "box" { Deliver_To = "maildir:/x" }'
    options = RIGHT.replace('"hop"', f'"{target}"')
    config = parse_config(f'{QUEUE} {more} Consumer "c" {{ {options} Concurrency = {concurrency} }}')
    found = [each for each in map(str, config.warnings) if "Concurrency: Max_Outbound_Connections of Delivery" in each]
    assert bool(found) is warned
