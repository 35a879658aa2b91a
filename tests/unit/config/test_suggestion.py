"""Suggestions for unknown names."""

from textwrap import dedent

import pytest
from config_text import LISTENER, config_errors

from triosmtp.config import parse_config
from triosmtp.config.suggestion import nearest, suggest


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "Control_Listener { Listen_Backlogg = 1 }",
            "1:20: error: unknown option Listen_Backlogg; did you mean Listen",
        ),
        (
            "Max_Recipients = 3",
            "1:1: error: unknown option Max_Recipients; did you mean Max_Recipients_Per_Connection or M",
        ),
        ("TLS_Key_File = x", "1:1: error: unknown option TLS_Key_File; did you mean TLS_Key?\n"),
        ("TLS_KeyFile = x", "1:1: error: unknown option TLS_KeyFile; did you mean TLS_Key?\n"),
        ("TLS_CRL_Path = x", "1:1: error: unknown option TLS_CRL_Path; did you mean TLS_Client_CRL?\n"),
        ("mail_spool = '/x'", "1:1: error: unknown option mail_spool\n"),
        ("Cert = x", "1:1: error: unknown option Cert; did you mean TLS_Certificate?\n"),
        ("Retry_Intervall = 3", "1:1: error: unknown option Retry_Intervall; did you mean retry_interval?\n"),
        ("Max = 3", "1:1: error: unknown option Max\n"),
    ],
)
def test_each_error_has_its_position_and_text(text: str, line: str) -> None:
    others = f"\n{config_errors(text)}".replace(
        "\ne.conf:1:1: error: no Listen is enabled: ", "\n"
    )  # which most lack, too
    assert f"\ne.conf:{line}" in others


def golden(text: str) -> str:
    return dedent(text).strip("\n")


def test_an_unknown_option_names_the_nearest() -> None:
    assert config_errors(f"Idle_Tme = 3\n{LISTENER}") == golden(
        """
        e.conf:1:1: error: unknown option Idle_Tme; did you mean Idle_Time?
            Idle_Tme = 3
            ^
        """
    )


def test_a_name_that_is_like_none_has_no_suggestion() -> None:
    assert config_errors("Xyzzy = 3").splitlines()[0] == "e.conf:1:1: error: unknown option Xyzzy"


def test_options_for_delivery_that_are_global_suggest_nothing() -> None:
    (problem,) = parse_config(f"TLS_Verify = require\n{LISTENER}").warnings
    assert "did you mean" not in problem.message


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("idle_tme", ["Idle_Time", "Listen"], "Idle_Time"),
        ("TLS_Key_File", ["TLS_Key", "TLS_Client_CA"], "TLS_Key"),
        ("Cert", ["TLS_Certificate", "TLS_Key"], "TLS_Certificate"),
        ("Max", ["Max_A", "Max_B", "Max_C", "Max_D"], None),
        ("Max", ["Max_A", "Max_B"], "Max_A or Max_B"),
        ("x" * 65, ["x" * 64], None),
        ("", ["Idle_Time"], None),
    ],
)
def test_the_nearest_name_is_a_misspelt_or_a_shortened_one(name: str, known: list[str], found: str | None) -> None:
    assert nearest(name, known) == found
    assert suggest(found) == (f"; did you mean {found}?" if found else "")
