"""Check the language of documentation, docstrings, comments and messages: ``nox -s prose``.

``python docs/prose.py PATH ...`` checks these files and folders, also those that ``prose.toml`` still leaves out.
``python docs/prose.py --count`` writes how often each rule is broken in the whole tree.

``prose.toml`` beside this file holds the rules: words and names with what to write instead, verbs that may begin a
docstring, exceptions with their reasons.
"""

import ast
import inspect
import io
import re
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs",
    "triosmtp",
    "tests",
    "bench",
    "examples",
    "noxfile.py",
)
GENERATED = re.compile(r"_build|node_modules|/\.")
SENTENCE_END = re.compile(r"(?<=[.!?])[)\"*_]*\s+(?=[\"(*`]?[A-Z0-9`])")
WORD = re.compile(r"[^\W_]+(?:[-'./][^\W_]+)*")
NAME_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


class Text(NamedTuple):
    """One paragraph: its line, its kind (docs, docstring, comment, string, name), and its words."""

    line: int
    kind: str
    text: str


class Finding(NamedTuple):
    """One broken rule."""

    path: str
    line: int
    rule: str
    message: str


@cache
def rules() -> dict[str, Any]:
    """Return ``prose.toml``, with the verbs as a set."""
    found = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    return {**found, "verbs": set(found["verbs"].split())}


def markdown_texts(source: str) -> Iterator[Text]:
    """Yield paragraphs, list items and table cells, without code and addresses of links."""
    paragraph: list[str] = []
    start, fence = 0, ""
    for number, line in enumerate([*source.splitlines(), ""], 1):
        mark = re.match(r"\s*(```+|~~~+|:::+)", line)
        toggles = mark and (not fence or mark[1].startswith(fence))
        begins = toggles or not line.strip() or re.match(r"\s*([-*+]|\d+\.|#+|>|\|)\s", line)
        if begins and paragraph:
            yield from _cells(start, "\n".join(paragraph))
            paragraph = []
        if mark and toggles:
            fence = "" if fence else mark[1]
        elif line.strip() and not fence:
            start = start if paragraph else number
            paragraph.append(re.sub(r"^\s*([-*+]|\d+\.|#+|>)\s+", "", line))


def _cells(line: int, paragraph: str) -> Iterator[Text]:
    cells = paragraph.strip("|").split("|") if paragraph.startswith("|") else [paragraph]
    for cell in cells:
        yield Text(line, "docs", without_code(cell))


def without_code(text: str) -> str:
    """Return the text with code as one word, and links as the text that they show."""
    text = re.sub(r"`{1,2}[^`]+`{1,2}(\w?)", r"CODE\1", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"<?https?://\S+", "LINK", text)


def python_texts(source: str) -> Iterator[Text]:
    """Yield docstrings, comments, other strings that are prose, and names."""
    yield from _strings(ast.parse(source))
    comment: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            yield Text(token.start[0], "name", token.string)
        if token.type != tokenize.COMMENT or re.match(r"#!|# (fmt|type|ruff|noqa|pragma)\b", token.string):
            continue
        if comment and token.start[0] != last + 1:
            yield Text(start, "comment", without_code(" ".join(comment)))
            comment = []
        start, last = token.start[0] if not comment else start, token.start[0]
        comment.append(re.sub(r"\s+(type: ignore|noqa).*", "", token.string.lstrip("# ")))
    if comment:
        yield Text(start, "comment", without_code(" ".join(comment)))


def _strings(tree: ast.Module) -> Iterator[Text]:
    docstrings = set()
    for node in ast.walk(tree):
        for child in getattr(node, "body", None) or [] if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            if (
                isinstance(child, ast.Expr)
                and isinstance(child.value, ast.Constant)
                and isinstance(child.value.value, str)
            ):
                docstrings.add(child.value)
                kind = "verb" if child is node.body[0] and _needs_verb(node) else "docstring"  # type: ignore[attr-defined]
                line, literal = child.value.lineno, False
                for part in re.split(r"(\n\n|\n(?=:\w)|\n *(?=- ))", inspect.cleandoc(child.value.value)):
                    literal = literal and part[:1].isspace()
                    if part.strip() and not literal and not re.match(r"\.\.|>>>|\|", part):
                        yield Text(line, kind, without_code(" ".join(part.split())))
                        literal, kind = part.endswith("::"), "docstring"
                    line += part.count("\n")
    for node in ast.walk(tree):
        is_string = isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings
        if is_string and len(WORD.findall(node.value)) > 1:
            yield Text(node.lineno, "string", node.value)


def _needs_verb(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("test_"):
        return False  # the docstring of a test explains the rule that its name states
    return not any("property" in ast.unparse(each) or "setter" in ast.unparse(each) for each in node.decorator_list)


def broken_rules(text: Text) -> Iterator[tuple[str, str]]:
    """Yield rule and message for everything that is wrong with a text."""
    if text.kind == "name":
        words = {word.lower() for word in NAME_WORD.findall(text.text)}
        for word in sorted(words & rules()["names"].keys()):
            yield f"name: {word}", f"name {text.text}: {rules()['names'][word]}"
        return
    for name, rule in rules()["words"].items():
        if text.kind in rule.get("in", (text.kind,)):
            for found in re.finditer(rule["pattern"], text.text):
                around = text.text[max(0, found.start() - 20) : found.end() + 20]
                yield f"word: {name}", f"'... {' '.join(around.split())} ...': {rule['instead']}"
    if text.kind == "string":
        return
    for sentence in SENTENCE_END.split(text.text):
        length = len(WORD.findall(sentence))
        if length > rules()["max_words"]:
            yield (
                "sentence",
                f"sentence of {length} words (at most {rules()['max_words']}): {' '.join(sentence.split()[:8])} ...",
            )
    first = (text.text.split() or [""])[0].rstrip(".,:;").lower()
    if text.kind == "verb" and first not in rules()["verbs"]:
        yield (
            "docstring",
            f"docstring begins with '{first}': begin with a verb in the imperative (known verbs: docs/prose.toml)",
        )


def check(path: Path) -> Iterator[Finding]:
    """Yield what is wrong in one file."""
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
    source = path.read_text("utf-8")
    excepted = [each for each in rules().get("exceptions", []) if name.startswith(each["path"])]
    for text in python_texts(source) if path.suffix == ".py" else markdown_texts(source):
        if name.startswith("tests/") and text.kind == "string":
            continue  # what tests say to a server, and what they expect, is tested elsewhere
        for rule, message in broken_rules(text):
            if not any(rule in each["rules"] and each.get("text", "") in text.text for each in excepted):
                yield Finding(name, text.line, rule, message)


def files(paths: list[str]) -> Iterator[Path]:
    """Yield the Markdown and Python files at and below the paths."""
    for each in paths:
        path = ROOT / each
        for found in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if (
                found.suffix in {".md", ".py"}
                and found.is_file()
                and not GENERATED.search(found.as_posix().removeprefix(str(ROOT)))
            ):
                yield found


def main(arguments: list[str]) -> int:
    """Write all findings, or their number by rule; return 1 if there is one."""
    chosen = [each for each in arguments if each != "--count"]
    paths = [str(Path.cwd() / each) for each in chosen] or list(SOURCES)
    found = [finding for path in files(paths) for finding in check(path)]
    if "--count" in arguments:
        counted = Counter(each.rule for each in found)
        sys.stdout.writelines(
            f"{number:6} {rule}\n" for rule, number in [*counted.most_common(), ("in all", len(found))]
        )
        return 0
    if not chosen:
        found = [each for each in found if not each.path.startswith(tuple(rules()["not_yet_clean"]))]
    sys.stdout.writelines(f"{each.path}:{each.line}: {each.message}\n" for each in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
