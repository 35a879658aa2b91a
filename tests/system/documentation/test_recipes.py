"""Lists that CONTRIBUTING.md names in its recipes are complete, and the files that it names exist."""

import json
import re
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest

from triosmtp import Policy, parse_config
from triosmtp.config.types.target_address import SCHEMES
from triosmtp.config.types.target_url import URL_SCHEMES
from triosmtp.delivery.delivery_loader import parse_delivery
from triosmtp.event import ServerEvent
from triosmtp.logs.event_fields import LINES
from triosmtp.policy import PHASES
from triosmtp.policy_service.websocket_policy import WebsocketPolicy
from triosmtp.testing import RecordingPolicy

ROOT = Path(__file__).parents[3]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CONF = 'Deliver_To = {} ESMTP_Listener {{ Listen ":25" {{ }} }}'


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:triosmtp|tests|docs|\.ci|examples)/[\w./-]*)`", CONTRIBUTING))
    assert len(named) > 30
    assert {name for name in named if not re.search("[A-Z]{4}", name) and not (ROOT / name).exists()} == set()


def text_of(path: str) -> str:
    """Return the text of a file, or of all files in a folder."""
    place = ROOT / path
    return "\n".join(each.read_text() for each in place.rglob("*.py")) if place.is_dir() else place.read_text()


def names_with_files() -> list[tuple[str, str]]:
    """Return each name that a step has in backticks, with its file: the next after `in` or `(`, else the last."""
    found = []
    for step in re.split(r"\n(?=\d\. |#)", CONTRIBUTING.partition("## Recipes")[2]):
        file = ""
        tokens = list(re.finditer(r"`([^`\n]+)`", step))
        for token, following in pairwise([*tokens, None]):
            assert token is not None
            if "/" in token[1]:
                file = token[1]
            elif re.fullmatch(r"\w+", token[1]) and "NAME" not in token[1]:
                joined = following is not None and step[token.end() : following.start()] in {" in ", " ("}
                found.append((token[1], following[1] if following is not None and joined else file))
    return found


@pytest.mark.parametrize(("name", "file"), names_with_files())
def test_every_name_is_in_the_file_of_its_step(name: str, file: str) -> None:
    assert file, f"no file is named before {name}"
    assert re.search(rf"\b{name}\b", text_of(file)), f"{name} is not in {file}"


def test_there_are_five_recipes() -> None:
    assert re.findall("^### A new (.*)$", CONTRIBUTING, re.MULTILINE) == [
        "option", "event", "SMTP command", "policy phase", "delivery",
    ]  # fmt: skip


def test_every_event_has_a_log_line() -> None:
    assert set(LINES) == set(get_args(ServerEvent))


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_is_known_everywhere(phase: str) -> None:
    method = f"validate_{phase}"
    assert method in vars(Policy)
    assert method in vars(WebsocketPolicy)
    assert method in vars(RecordingPolicy)
    parse_config(f"Policy_Fallback_Phases = [ {phase} = continue ] {CONF.format('discard:')}")
    assert (
        method in json.loads((files("triosmtp.policy_service") / "schema/policy.v1.schema.json").read_text())["$defs"]
    )
    assert f"`{method}(" in page("policy.md")
    assert (ROOT / "docs" / "policy-protocol" / f"{method}.md").exists()


def schemes() -> list[str]:
    """Return the schemes of deliveries that need no import."""
    with pytest.raises(ValueError, match="expected one of") as unknown:
        parse_delivery("unknown:")
    return re.findall(r"(\w+:)", str(unknown.value).partition("expected one of")[2])


def test_configuration_and_delivery_know_the_same_schemes() -> None:
    local = {f"{scheme}:" for scheme in SCHEMES if not URL_SCHEMES.get(scheme)}
    assert {*schemes(), "python:"} == local


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_of_a_delivery_is_documented(scheme: str) -> None:
    for name in ("running.md", "esmtp.md"):
        rows = [row.split("|")[1] for row in page(name).splitlines() if row.startswith("| `")]
        assert any(f"`{scheme}:" in row for row in rows), name
