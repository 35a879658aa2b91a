"""What README and documentation show, works: stanzas parse, programs run, options that are named exist."""

import ast
import importlib
import re
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import attrs
import pytest

from triosmtp import Policy, TLSInfo, parse_config
from triosmtp.config import OPTIONS
from triosmtp.policy_client import PolicyClient
from triosmtp.tls import REASONS

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(language, text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, (language, text) in enumerate(FENCE.findall(page.read_text()))
]


def blocks(language: str, containing: str) -> list[object]:
    """Pick the blocks of one language that hold a text."""
    found = [block for block in BLOCKS if block.values[0] == language and containing in str(block.values[1])]
    assert found, f"no {language or 'plain'} block with {containing}: the pages have changed their form"
    return [pytest.param(block.values[1], id=block.id) for block in found]


@pytest.mark.parametrize("stanza", blocks("", "Listen "))
def test_stanza_is_a_valid_configuration(stanza: str) -> None:
    config = parse_config(stanza)
    assert config.listens
    assert config.warnings == ()


@pytest.mark.parametrize("program", blocks("python", "(Policy)"))
def test_policy_can_be_defined(program: str) -> None:
    namespace: dict[str, object] = {}
    exec(program, namespace)  # the block is ours
    classes = [value for value in namespace.values() if isinstance(value, type) and value.__module__ == "builtins"]
    assert any(issubclass(found, Policy) for found in classes)


@pytest.mark.parametrize("program", blocks("python", "trio.run(main"))
def test_program_serves(program: str) -> None:
    with subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert "127.0.0.1" in process.stdout.readline()
        finally:
            process.kill()


@pytest.mark.parametrize("program", blocks("python", "PolicyClient("))
def test_policy_client_can_be_made(program: str) -> None:
    namespace: dict[str, object] = {"__name__": "example"}
    exec(program, namespace)  # the block is ours
    assert isinstance(namespace["client"], PolicyClient)


@pytest.mark.parametrize("page", [page.relative_to(ROOT).as_posix() for page in PAGES if page.stem != "architecture"])
def test_options_that_are_named_exist(page: str) -> None:
    listeners = {"Control_Listener", "ESMTP_Listener", "Policy_Listener", "Status_Listener"}
    scopes = {*listeners, "Binding_Group", "Pathway_Group", "Server_Name"}
    known = {option.name for option in OPTIONS.values()} | scopes | {"TLS_Certifcate", "Enable_Authentication"}
    known |= {"Header_Type", "Authserv_Id"}  # of policyd-spf
    named = set(re.findall(r"\b[A-Z][A-Za-z]+_[A-Z][A-Za-z_]*[a-z]\b", (ROOT / page).read_text()))
    assert named - known == set()


def test_every_variable_of_a_handshake_is_documented() -> None:
    words = {attribute.name: "x" for attribute in attrs.fields(TLSInfo)}
    digests = {"client_fingerprint_sha256": "00", "client_spki_sha256": "00"}
    moments = {"client_not_before": datetime.now(UTC), "client_not_after": datetime.now(UTC)}
    tls = TLSInfo(**{**words, **digests, **moments, "verified": True})  # type: ignore[arg-type]  # fields by name
    page = (ROOT / "docs" / "variables.md").read_text()
    assert {name for name in tls.variables() if f"| `{name}`" not in page} == set()


def test_every_reason_of_a_failed_handshake_is_documented() -> None:
    page = (ROOT / "docs" / "tls.md").read_text()
    assert {reason for reason in REASONS if f"`{reason}`" not in page} == set()


def test_every_page_is_in_the_contents() -> None:
    contents = (ROOT / "docs" / "index.md").read_text().splitlines()
    assert {page.stem for page in PAGES if page.parent == ROOT / "docs"} - set(contents) == {"index"}


def test_readme_opens_with_two_commands_that_set_themselves_up() -> None:
    shown = FENCE.findall((ROOT / "README.md").read_text())[:2]
    assert [language for language, _ in shown] == ["sh", "sh"]
    commands = [line for _, text in shown for line in text.splitlines() if not line.startswith("#")]
    assert [command.rpartition("/")[2] for command in commands] == ["triosmtp serve", "nox"]
    assert all(command.startswith("python3 -m venv .venv && .venv/bin/pip install -q ") for command in commands)


@pytest.mark.parametrize("module", ["triosmtp", "triosmtp.testing", "triosmtp.policy_client"])
def test_everything_that_is_exported_is_in_the_reference(module: str) -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    shown = set(re.findall(r"\.\. auto\w+:: (\w+)", page))
    elsewhere = {"DISCARD", "DONE"} if module == "triosmtp.policy_client" else set()
    assert set(importlib.import_module(module).__all__) - shown - elsewhere == set()


@pytest.mark.parametrize("module", ["event", "server/service"])
def test_every_field_of_events_and_statistics_is_documented(module: str) -> None:
    common = re.search(r"## triosmtp.event\n\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    assert common is not None
    tree = ast.parse((ROOT / "triosmtp" / f"{module}.py").read_text())
    for found in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        if module != "event" and found.name != "Statistics":
            continue
        words = (ast.get_docstring(found) or "") + common[1].replace("`", "``")
        for before, after in pairwise([*found.body, ast.Pass()]):
            if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
                told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                assert told or f"``{before.target.id}``" in words, f"{found.name}.{before.target.id}"


def test_the_page_of_the_library_lists_every_event() -> None:
    assert "```{event-list}\n```" in (ROOT / "docs" / "library.md").read_text()
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        listed = importlib.import_module("event_classes").events()
    finally:
        sys.path.remove(str(ROOT / "docs"))
    module = importlib.import_module("triosmtp.event")
    assert {each.__name__ for each in listed} | {"Observer", "ServerEvent", "SessionInfo"} == set(module.__all__)


def test_every_file_that_the_architecture_names_exists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", page))
    assert len(named) > 40
    assert {name for name in named if not (ROOT / "triosmtp" / name).exists() and not (ROOT / name).exists()} == set()


def test_every_class_of_the_glossary_exists_in_its_module() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text()
    classes = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \|", page, re.MULTILINE)
    assert len(classes) > 10
    assert [name for name, module in classes if not hasattr(importlib.import_module(module), name)] == []


def test_every_file_that_the_glossary_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / "docs" / "glossary.md").read_text())
    assert named
    assert [name for name in named if not (ROOT / "triosmtp" / name).exists()] == []


def test_every_decision_has_context_and_cost() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    decisions = re.findall(r"^### (.*)\n\n((?:(?:- |  ).*\n?)*)", page, re.MULTILINE)
    assert len(decisions) > 30
    for title, text in decisions:
        assert re.findall(r"^- \*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Context", "Decision", "Cost"], title


@pytest.mark.parametrize("page", [page.name for page in PAGES if page.stem not in {"README", "index", "changelog"}])
def test_a_page_begins_with_its_readers(page: str) -> None:
    """The first paragraph says for whom the page is."""
    first = (ROOT / "docs" / page).read_text().split("\n\n")[1]
    assert re.match(r"For \w+|.* [Ff]or (operators|authors|developers|contributors|readers)", first.split("\n")[0]), (
        first
    )
