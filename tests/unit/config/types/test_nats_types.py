"""The name of a node, and the subject of events."""

import pytest

from triosmtp.config import parse_config
from triosmtp.config.types.target_url import TargetAddress
from triosmtp.errors import ConfigError

LISTEN = 'ESMTP_Listener { Listen ":25" { } }'


@pytest.mark.parametrize("name", ["mx1", "a", "A-1-b", "x" * 32])
def test_a_name_of_letters_digits_and_hyphens_is_a_node(name: str) -> None:
    assert parse_config(f'Node_Name = "{name}" {LISTEN}').base.node_name == name


@pytest.mark.parametrize("name", ["", "a.b", "a_b", "x" * 33, "ä", "a b"])
def test_another_name_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="expected 1 to 32 characters"):
        parse_config(f'Node_Name = "{name}" {LISTEN}')


def test_the_subject_of_events_has_no_stream() -> None:
    found = parse_config(f'Publish_Events = "nats://n1,n2:1/triosmtp.events" {LISTEN}').base.publish_events
    assert found == TargetAddress("nats", "/triosmtp.events", (("n1", 4222), ("n2", 1)))
    assert str(found) == "nats://n1:4222,n2:1/triosmtp.events"


@pytest.mark.parametrize(
    "text",
    ["nats://n1", "nats://n1/", "nats://n1/a.>", "nats://n1/a b", "nats://n1/$SYS.x", "ws://n1/a", "n1/a", "nats:///a"],
)
def test_another_address_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="expected nats://host"):
        parse_config(f'Publish_Events = "{text}" {LISTEN}')


def test_a_password_in_the_address_is_an_error_that_does_not_show_it() -> None:
    with pytest.raises(ConfigError, match="Publish_Events_Credentials_File") as caught:
        parse_config(f'Publish_Events = "nats://u:geheim@n1/a" {LISTEN}')
    assert "geheim" not in caught.value.problems[0].message
