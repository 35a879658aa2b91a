"""The check of language finds what it forbids, and leaves plain sentences alone."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "docs" / "prose.py"
LONG = " ".join(["word"] * 31)


def load() -> object:
    """Import the program, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("prose", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prose"] = module
    spec.loader.exec_module(module)
    return module


prose = load()


def broken(folder: Path, name: str, text: str) -> list[tuple[int, str]]:
    """Return line and rule of each finding in a file with that text."""
    path = folder / name
    path.write_text(text)
    return [(found.line, found.rule) for found in prose.check(path)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Whoever connects is welcome.", "word: whoever"),
        ("A client is told of it.", "word: told"),
        ("The file cannot be had, so it was had elsewhere.", "word: had"),
        ("The call gives a value.", "word: gives"),
        ("It is closed where no client is left.", "word: where"),
        ("Where it fails, nothing is written.", "word: where"),
        ("What fails is logged.", "word: relative"),
        ("There is no room.", "word: metaphor"),
        ("The text was written anew.", "word: archaic"),
        (f"{LONG}.", "sentence"),
        (f"Short one. {LONG}.", "sentence"),
    ],
)
def test_words_and_long_sentences_are_found_in_pages_docstrings_and_comments(
    tmp_path: Path, text: str, rule: str
) -> None:
    assert rule in {rule for _, rule in broken(tmp_path, "page.md", f"# Title\n\n{text}\n")}
    assert rule in {rule for _, rule in broken(tmp_path, "module.py", f'"""Module.\n\n{text}\n"""\n')}
    assert rule in {rule for _, rule in broken(tmp_path, "module.py", f"x = 1\n# {text}\n")}


@pytest.mark.parametrize(
    "text",
    [
        "A client that fails is logged.",
        "The option says where the file is. What is it?",
        "It gives up after three attempts.",
        "See [the page](where-it-is-told-of.md) and `whoever`.",
        f"{' '.join(['word'] * 15)}. {' '.join(['Word'] * 15)}.",
        f"- {' '.join(['word'] * 20)}\n- {' '.join(['word'] * 20)}",
        f"| {' '.join(['word'] * 20)} | {' '.join(['word'] * 20)} |",
        f"```\nwhoever {LONG}\n```",
    ],
)
def test_plain_sentences_code_and_lists_pass(tmp_path: Path, text: str) -> None:
    assert broken(tmp_path, "page.md", f"{text}\n") == []


def test_finding_names_the_line(tmp_path: Path) -> None:
    assert broken(tmp_path, "page.md", "# Title\n\nPlain.\n\nPlain,\nand whoever.\n") == [(5, "word: whoever")]
    assert broken(tmp_path, "module.py", "x = 1\n\n# Plain.\n\n# Whoever.\n") == [(5, "word: whoever")]


def test_docstring_of_a_function_begins_with_a_verb(tmp_path: Path) -> None:
    function = 'class C:\n    """Noun phrase."""\n\n    {0}def f(self): \n        """{1} the value."""\n'
    assert broken(tmp_path, "a.py", function.format("", "Return")) == []
    assert broken(tmp_path, "b.py", function.format("@property\n    ", "Size of")) == []
    for begin in ("Returns", "The", "Give", "Whether"):
        assert (5, "docstring") in broken(tmp_path, "c.py", function.format("async ", begin))


def test_literal_blocks_of_docstrings_are_no_sentences(tmp_path: Path) -> None:
    long = " ".join(["word"] * 40)
    assert broken(tmp_path, "a.py", f'"""Module::\n\n    {long}\n\nSentence.\n"""\n') == []
    assert broken(tmp_path, "b.py", f'"""Module.\n\n    {long}\n"""\n') == [(3, "sentence")]


def test_messages_and_names_are_checked(tmp_path: Path) -> None:
    assert broken(tmp_path, "a.py", 'log("whoever connects")\n') == [(1, "word: whoever")]
    assert broken(tmp_path, "b.py", 'raise ValueError(f"no room for {1}")\n') == [(1, "word: metaphor")]
    assert broken(tmp_path, "c.py", "class FrontDoor:\n    pass\n") == [(1, "name: door")]
    assert broken(tmp_path, "d.py", "def heed_all(MAX_PATIENCE): ...\n") == [(1, "name: heed"), (1, "name: patience")]


def test_findings_decide_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("Whoever connects.\n")
    found = subprocess.run([sys.executable, PROGRAM, tmp_path], check=False, capture_output=True, text=True)
    assert found.returncode == 1
    assert "page.md:1: " in found.stdout
    (tmp_path / "page.md").write_text("A client connects.\n")
    assert subprocess.run([sys.executable, PROGRAM, tmp_path], check=False).returncode == 0


def test_every_exception_has_a_reason_and_every_path_exists() -> None:
    rules = prose.rules()  # type: ignore[attr-defined]
    assert all(each["reason"] for each in rules.get("exceptions", []))
    paths = [*rules["not_yet_clean"], *(each["path"] for each in rules.get("exceptions", []))]
    assert [each for each in paths if not (PROGRAM.parents[1] / each).exists()] == []
