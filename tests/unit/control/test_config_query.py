"""Queries about a configuration: what is set in a scope, and what is in force for a connection."""

import pytest

from triosmtp import Config, parse_config
from triosmtp.control.config_query import NotSetError, config_eval, config_get, config_show, config_showrecurse
from triosmtp.errors import QueryError

TEXT = """
Idle_Time = 100
ESMTP_Listener {
  Idle_Time = 200
  Listen "127.0.0.1:2525" { }
  Listen "127.0.0.1:2526" { Peer "10.0.0.0/8" { Idle_Time = 300 } }
}
"""


@pytest.fixture
def config() -> Config:
    return parse_config(TEXT)


def test_show_has_what_is_set_in_the_scope(config: Config) -> None:
    assert config_show(config, []) == ["Idle_Time = 100  # <string>:2"]
    assert config_show(config, ["ESMTP_Listener"]) == ["Idle_Time = 200  # <string>:4"]
    assert config_show(config, ["ESMTP_Listener", "Listen", "127.0.0.1:2525", "Idle_Time"]) == []


def test_showrecurse_has_the_scopes_inside_too(config: Config) -> None:
    text = "\n".join(config_showrecurse(config, ["ESMTP_Listener"]))
    assert "Idle_Time = 200" in text
    assert "Idle_Time = 300" in text
    with pytest.raises(QueryError, match=r"^showrecurse takes only scopes, and Idle_Time is an option$"):
        config_showrecurse(config, ["Idle_Time"])


def test_get_is_of_exactly_that_scope(config: Config) -> None:
    assert config_get(config, ["ESMTP_Listener", "Idle_Time"]) == ["Idle_Time = 200  # <string>:4"]
    with pytest.raises(NotSetError, match=r"^Idle_Time is not set in that scope$"):
        config_get(config, ["ESMTP_Listener", "Listen", "127.0.0.1:2525", "Idle_Time"])
    with pytest.raises(QueryError, match=r"^get needs the name of an option as its last word$"):
        config_get(config, ["ESMTP_Listener"])


@pytest.mark.parametrize(
    ("local", "peer", "value"),
    [
        ("127.0.0.1:2525", None, "200"),
        ("127.0.0.1:2526", None, "200"),
        ("127.0.0.1:2526", "10.1.2.3", "300"),
        ("127.0.0.1:2526", "[10.1.2.3]", "300"),
        ("127.0.0.1:2526", "192.0.2.1", "200"),
    ],
)
def test_eval_is_as_for_that_connection(config: Config, local: str, peer: str | None, value: str) -> None:
    (line,) = config_eval(config, ["Idle_Time"], local=local, peer=peer)
    assert line.startswith(f"Idle_Time = {value}")


@pytest.mark.parametrize(
    ("words", "local", "peer", "message"),
    [
        (["Idle_Time"], ":99", None, "--local: no Listen accepts :99; Listens: 127.0.0.1:2525, 127.0.0.1:2526"),
        (["Idle_Time"], None, "10.0.0.1", "--peer needs --local, one of: 127.0.0.1:2525, 127.0.0.1:2526"),
        (["Idle_Time"], "127.0.0.1:2525", "nobody", "--peer: expected an address, found 'nobody'"),
        (["ESMTP_Listener", "Idle_Time"], "127.0.0.1:2525", None, "name an option without scopes"),
        (["User"], "127.0.0.1:2525", None, "User is no option of connections"),
    ],
)
def test_eval_refuses_what_names_no_connection(
    config: Config, words: list[str], local: str | None, peer: str | None, message: str
) -> None:
    with pytest.raises(QueryError) as caught:
        config_eval(config, words, local=local, peer=peer)
    assert message in str(caught.value)
