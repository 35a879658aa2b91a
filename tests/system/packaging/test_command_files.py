"""The man page, the shell completions and the examples that the package brings."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[3]


def run(*command: str, folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=folder)


def command_files() -> ModuleType:
    spec = importlib.util.spec_from_file_location("command_files", REPOSITORY / "docs/command_files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse words its usage differently in each version")
@pytest.mark.parametrize("name", ["man/triosmtp.1", "completion/triosmtp.bash", "completion/_triosmtp"])
def test_files_are_what_nox_manual_writes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = REPOSITORY / "docs" / name
    assert path.read_text("utf-8") == command_files().FILES[path](), "run `nox -s manual`"


def test_man_page_renders_without_warnings() -> None:
    done = run("groff", "-man", "-Tutf8", "-ww", str(REPOSITORY / "docs/man/triosmtp.1"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "triosmtp - SMTP listener" in done.stdout
    assert "SCOPE… OPTION" in done.stdout


def complete(*words: str) -> list[str]:
    """Return what bash offers behind ``words``."""
    line = " ".join(words)
    script = f"""
        source {REPOSITORY}/docs/completion/triosmtp.bash
        COMP_WORDS=({line} "") COMP_CWORD={len(words)} COMP_LINE="{line} " COMP_POINT={len(line) + 1}
        _shtab_triosmtp triosmtp "" {words[-1]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return run("bash", "--norc", "-c", script).stdout.split()


def test_bash_completes_commands() -> None:
    assert {"serve", "check", "console", "tls", "examples"} <= set(complete("triosmtp"))
    assert {"show", "check", "tlsa"} <= set(complete("triosmtp", "tls"))


def test_zsh_reads_the_completion() -> None:
    done = run("zsh", "-n", str(REPOSITORY / "docs/completion/_triosmtp"))
    assert (done.returncode, done.stderr) == (0, "")


def examples(target: Path) -> "subprocess.CompletedProcess[str]":
    return run(sys.executable, "-m", "triosmtp", "examples", str(target))


def test_examples_are_copied_with_their_modes(tmp_path: Path) -> None:
    target = tmp_path / "new/examples"
    done = examples(target)
    assert (done.returncode, done.stderr) == (0, "")
    copied = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    kept = run("git", "ls-files", "examples", folder=REPOSITORY).stdout.split()
    assert {name.removeprefix("examples/") for name in kept} <= copied
    assert set(done.stdout.split("\n")[:-1]) == {str(target / name) for name in copied}
    assert (target / "deploy/certbot-deploy-hook").stat().st_mode & 0o777 == 0o755


def test_examples_overwrite_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    done = examples(tmp_path)
    assert (done.returncode, done.stderr) == (73, f"triosmtp: {tmp_path}: the folder is not empty\n")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_examples_name_the_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = examples(tmp_path / "file/below")
    assert (done.returncode, done.stderr) == (73, f"triosmtp: {tmp_path}/file/below: Not a directory\n")


def test_python_runs_the_package_as_a_module() -> None:
    done = run(sys.executable, "-m", "triosmtp", "--version")
    assert done.returncode == 0
    assert done.stdout.startswith("triosmtp ")
