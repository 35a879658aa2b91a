"""The parameters of AUTH: URIs, keys, and schemes of Momentum's modules."""

# ruff: noqa: E501 - lines of output are not broken

import pytest
from config_text import LISTENER, config_errors

from triosmtp.config import parse_config
from triosmtp.errors import Severity


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            'AuthPlainParameters = [ uri = "fil:///a" ]',
            '1:31: error: AuthPlainParameters: expected file:///path or digest:///path, found "fil://"; did you mean file://?',
        ),
        (
            "AuthLoginParameters = [ uri = 'radus://' ]",
            "1:31: error: AuthLoginParameters: expected file:///path or digest",
        ),
        (
            "AuthScramParameters = [ uri = 'mine://' ] x_ds { mine = [ ] }",
            "1:31: error: AuthScramParameters: expected fil",
        ),
        (
            "AuthPlainParameters = [ uri = 'file://a' ]",
            "1:31: error: AuthPlainParameters: expected file:///path or dig",
        ),
        ("AuthPlainParameters = [ uri = 'file' ]", "1:31: error: AuthPlainParameters: expected file:///path or digest"),
        (
            "AuthPlainParameters = [ uri = 'file:///a' foo = b ]",
            "1:43: error: AuthPlainParameters: expected one of uri",
        ),
        (
            "AuthLoginParameters = [ uri = 'filr:///a' ]",
            '1:31: error: AuthLoginParameters: expected file:///path or digest:///path, found "filr://"; did you mean file:/',
        ),
    ],
)
def test_each_error_has_its_position_and_text(text: str, line: str) -> None:
    others = f"\n{config_errors(text)}".replace(
        "\ne.conf:1:1: error: no Listen is enabled: ", "\n"
    )  # which most lack, too
    assert f"\ne.conf:{line}" in others


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        *(
            (
                f'AuthPlainParameters = [ uri = "{scheme}://" ]',
                f"AuthPlainParameters: {scheme}:// is answered by a module",
            )
            for scheme in ("ac_auth", "ecauth", "mysqlauth", "radius", "smtp_auth_proxy", "RADIUS")
        ),
        (
            'AuthLoginParameters = [ key = "x" URI = "radius://10.0.0.1:1812/x" realm = ( a ) ]',
            "AuthLoginParameters: radius:// is answered by a module of Momentum's: the mechanism is not offered",
        ),
    ],
)
def test_warnings_do_not_keep_a_configuration_from_loading(text: str, warning: str) -> None:
    config = parse_config(f"{text}\n{LISTENER}")
    (problem,) = config.warnings
    assert problem.severity is Severity.WARNING
    assert warning in problem.message
    assert problem.position is not None
    assert problem.position.line == 1


@pytest.mark.parametrize(
    "stanza",
    [
        "auth_ds 'mine' { }",
        "auth_ds { mine = [ query = 'a' ] }",
        "AUTH_DS x { Mine { } }",
        "auth_ds x { scheme 'mine' { } }",
    ],
)
def test_a_scheme_that_a_stanza_of_auth_ds_names_is_a_module_of_momentum(stanza: str) -> None:
    config = parse_config(f"AuthPlainParameters = [ uri = 'mine://' ]\n{stanza}\n{LISTENER}")
    told, _ = config.warnings
    assert (
        told.message
        == "AuthPlainParameters: mine:// is answered by a module of Momentum's: the mechanism is not offered"
    )
