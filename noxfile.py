"""Sessions marked with * run by default: `nox`.  Run one with `nox -s NAME`, and pass arguments to it after `--`."""

import os
import sys
from itertools import chain
from pathlib import Path

import nox

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lint", "prose", "imports", "types", "tests", "docs"]

PYTHON_CODE = ("triosmtp", "tests", "examples", "bench", "docs", "noxfile.py")
SMOKE = (
    "tests/unit/config", "tests/unit/smtp", "tests/unit/policy", "tests/system/session", "tests/system/packaging",
    "tests/unit/daemon/test_serve_command.py",
)  # fmt: skip
PYPROJECT = nox.project.load_toml("pyproject.toml")
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
WITH_EXTRAS = f".[{','.join(EXTRAS)}]"
PROSE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", ".ci", "pyproject.toml")


def install(session: nox.Session, *groups: str, project: bool = True) -> None:
    """Install dependency groups, by name so that an old pip will do, and the project in place with all extras."""
    wanted = nox.project.dependency_groups(PYPROJECT, *groups)
    session.install("-q", "--disable-pip-version-check", *wanted, *(("-e", WITH_EXTRAS) if project else ()))


@nox.session(venv_backend="none")
def dev(session: nox.Session) -> None:
    """Install the project and all tools into the environment that nox itself runs in: `.venv`."""
    wanted = nox.project.dependency_groups(PYPROJECT, "dev")
    session.run(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted, "-e", WITH_EXTRAS)


@nox.session
def lint(session: nox.Session) -> None:
    """Check code style, formatting and spelling with ruff and codespell."""
    install(session, "lint", project=False)
    session.run("ruff", "check", *PYTHON_CODE)
    session.run("ruff", "format", "--check", *PYTHON_CODE)
    session.run("codespell", *PYTHON_CODE, *PROSE)


@nox.session(venv_backend="none")
def prose(session: nox.Session) -> None:
    """Check the language of documentation, docstrings, comments and messages; arguments are paths."""
    session.run(sys.executable, "docs/prose.py", *session.posargs)


@nox.session
def imports(session: nox.Session) -> None:
    """Check that packages import in one direction only, by the contracts in pyproject.toml."""
    # import-linter reads source text: what the project depends on need not be there.
    install(session, "imports", project=False)
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": "."})


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy in strict mode."""
    install(session, "types")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, with COVERAGE=1 with branch coverage; arguments go to pytest: `nox -s tests -- -k maildir`."""
    install(session, "test")
    # A process for each core (PYTEST_XDIST_AUTO_NUM_WORKERS sets another number), and a file's tests in one of them.
    pytest = ("pytest", "-n", "auto", "--dist", "loadfile", *session.posargs)
    # Measuring takes a third of the time, which CI does not have on a slow machine.  Without all programs, the minimum
    # is not reached: tests are skipped.
    if not os.environ.get("COVERAGE"):
        session.run(*pytest)
        return
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", *pytest)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation with warnings as errors, and test it in a browser."""
    install(session, "docs", "test")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")
    site = "tests/system/status_page/test_documentation_site.py"
    session.run("pytest", "-q", site, env={"TRIOSMTP_SITE": "docs/_build/html"})


@nox.session(venv_backend="none")
def minima(session: nox.Session) -> None:
    """Write the stated minimum versions to a file of constraints for pip: `nox -s minima -- FILE`."""
    stated = [*PYPROJECT["project"]["dependencies"], *chain.from_iterable(EXTRAS.values())]
    Path(session.posargs[0]).write_text("".join(f"{each.replace('>=', '==')}\n" for each in stated))


@nox.session
def package(session: nox.Session) -> None:
    """Build sdist and wheel, install each into an empty environment, and use it there."""
    session.install("-q", "--disable-pip-version-check", "build")
    folder = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "-q", "--outdir", str(folder / "dist"), silent=True)
    for archive in sorted((folder / "dist").iterdir()):
        empty = folder / archive.suffix.removeprefix(".")
        session.run("python", "-m", "venv", "--clear", str(empty))
        session.run(str(empty / "bin/pip"), "install", "-q", "--disable-pip-version-check", str(archive), external=True)
        session.run(str(empty / "bin/python"), "-I", "tests/system/packaging/smoke.py", external=True)
        archive.unlink()


@nox.session
def smoke(session: nox.Session) -> None:
    """Run the tests of the core, for other versions of Python: `nox -s smoke --force-python python3.13`."""
    install(session, "test")
    session.run("pytest", "-n", "auto", "--dist", "loadfile", *(session.posargs or SMOKE))


@nox.session
def manual(session: nox.Session) -> None:
    """Write the man page and the shell completions from the argument parser."""
    install(session, "manual")
    session.run("python", "docs/command_files.py")


@nox.session
def judge(session: nox.Session) -> None:
    """Run every test with full sizes.  It takes far longer than `nox -s tests`."""
    install(session, "test")
    session.run("pytest", *session.posargs, env={"TRIOSMTP_JUDGE": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    """Measure everything: tables here, the same as bench-results-*.json, a plot.  About 50 minutes, on two idle CPUs.

    With arguments: ``python -m bench ARGUMENTS`` alone, CPU beside the other servers.
    """
    install(session, "bench")
    if (os.cpu_count() or 1) < 2:
        session.error("the benchmark needs two CPUs: one for the server, one for the load")
    if session.posargs:
        session.run("python", "-m", "bench", *session.posargs)
        return
    session.run("python", "-m", "bench.count", "--policies", "--json", "bench-results-count.json")
    session.run("python", "-m", "bench", "--runs", "5", "--json", "bench-results-cpu.json")
    session.run(
        "python", "-m", "bench.growth", "--json", "bench-results-growth.json", "--plot", "docs/_static/growth.svg"
    )
    session.run("python", "-m", "bench.memory")
    session.run("python", "-m", "bench.policy")
    session.run("python", "-m", "bench.deliveries")
    session.run("python", "-m", "bench.workers")
