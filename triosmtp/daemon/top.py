"""The command ``triosmtp top``: the overview in a terminal, as the status page has it.

Nothing of a peer's reaches the terminal but printable characters: no text can move the cursor, or ring the bell.
"""

import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from triosmtp.daemon.console import UnreachableError, ask

__all__ = ["render", "top_command"]

_EX_UNAVAILABLE: Final = 69
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_REST_OF_SCREEN: Final = "\x1b[J"


def top_command(place: Path, *, once: bool, interval: float) -> int:
    """Show the overview until ``q``; with ``once``, print it and end.  Gives the exit status.

    Keys: ``q`` ends, ``/`` begins a filter of the sessions, Return or Escape ends typing it.
    """
    try:
        if once or not (sys.stdin.isatty() and sys.stdout.isatty()):
            print("\n".join(render(_overview(place), *shutil.get_terminal_size((120, 50)))))
            return 0
        with _screen():
            _watch(place, interval)
    except UnreachableError as error:
        print(f"triosmtp: {error}", file=sys.stderr)
        return _EX_UNAVAILABLE
    except KeyboardInterrupt:
        pass
    return 0


def _overview(place: Path) -> Mapping[str, Any]:
    answer = ask(["overview"], place)
    if answer.status or not isinstance(answer.data, dict):
        raise UnreachableError(answer.text)
    return answer.data


@contextmanager
def _screen() -> Iterator[None]:
    """Take the terminal's second screen and its keys, and give them back whatever happens."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        sys.stdout.write(_ENTER)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _watch(place: Path, interval: float) -> None:
    wanted, typing, value = "", False, _overview(place)
    due = time.monotonic() + interval
    while True:
        columns, lines = shutil.get_terminal_size()
        prompt = f"filter: {wanted}{'_' if typing else ''}" if typing or wanted else "q ends, / filters the sessions"
        shown = [*render(value, columns, lines - 1, wanted), _fit(prompt, columns)]
        sys.stdout.write(_HOME + f"{_REST_OF_LINE}\r\n".join(shown) + _REST_OF_LINE + _REST_OF_SCREEN)
        sys.stdout.flush()
        if select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            key = os.read(sys.stdin.fileno(), 32).decode("utf-8", "ignore")
            for each in [key] if key.startswith("\x1b") else key:  # a sequence is one key
                if not typing and each == "q":
                    return
                wanted, typing = _typed(each, wanted, typing=typing)
        if time.monotonic() >= due:
            value, due = _overview(place), time.monotonic() + interval


def _typed(key: str, wanted: str, *, typing: bool) -> tuple[str, bool]:
    if not typing:
        return ("", True) if key == "/" else (wanted, False)
    if key in {"\r", "\n"}:
        return wanted, False
    if key.startswith("\x1b"):
        return "", False
    if key in {"\x7f", "\b"}:
        return wanted[:-1], True
    return (wanted + key if key.isprintable() else wanted)[:60], True


def render(value: Mapping[str, Any], columns: int, lines: int, wanted: str = "") -> list[str]:
    """Give the lines of one screen of that size; ``wanted`` filters the sessions."""
    rates = value["rates"]
    versions = [name for name in rates if name not in {"failed", "accepted", "refused"}]
    shaken = sum(sum(rates[name][-10:]) for name in versions) / 10
    clients = value["client_certificates"]
    moment = time.strftime("%H:%M:%S", time.localtime(value["time"]))
    state = value["state"] if value["ready"] else value["state"].upper()
    head = (
        f"triosmtp {state}  {moment}  sessions {value['sessions_total']}"
        f"  handshakes {shaken:.1f}/s  messages {sum(rates['accepted'][-60:])}/min"
        f"  refused {sum(rates['refused'][-60:])}/min"
    )
    most = f"  most: {value['verify_errors'][0][0]}" if value["verify_errors"] else ""
    rows = [
        head,
        f"TLS, 5 min: {_counts(value['versions'])}  failed {sum(rates['failed'])}  groups: {_counts(value['groups'])}",
        f"client certificates: {_counts(clients)}{most}",
        "",
        *_certificates(value),
        *(f"policy {_group(each)}" for each in value["policy_groups"]),
        "",
    ]
    refusals = [_refusal(each) for each in value["refusals"]]
    left = max(2, lines - len(rows) - 3)
    kept = min(len(refusals), max(3, left // 3))
    found = [_session(each) for each in value["sessions"]]
    found = [each for each in found if wanted.lower() in " ".join(each).lower()]
    table = _table([("PEER", "LISTEN", "TLS", "CLIENT CERTIFICATE", "STATE", "AGE"), *found[: max(0, left - kept)]])
    rows += [*table, "", "latest refusals", *refusals[:kept]]
    return [_fit(row, columns) for row in rows[:lines]]


def _counts(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in values.items()) or "none"


def _certificates(value: Mapping[str, Any]) -> Iterator[str]:
    for each in value["certificates"]:
        names = ", ".join(each["names"][:3]) or each["subject"]
        mark = "" if each["mark"] == "fine" else f" ** {each['mark'].upper()} **"
        yield f"certificate: {each['days']} days left{mark}  {names}  {each['file']}"
    for each in value["certificate_problems"]:
        yield f"** NOT IN FORCE ** {each['option']} {each['file']}: {each['reason']}"


def _group(each: Mapping[str, Any]) -> str:
    latency = each["latency_ms"]
    return (
        f"{each['group']}: {each['deciders']} deciders, asked {each['asked']}, p50 {latency['p50']} ms, "
        f"p99 {latency['p99']} ms, fallbacks {each['fallbacks']}, breaker {each['breaker']}"
    )


def _session(each: Mapping[str, Any]) -> tuple[str, ...]:
    tls = each["tls"]
    if tls is None:
        shown, client = "off", "-"
    else:
        shown = str(tls["protocol"])
        variables = each["tls_variables"]
        client = "verified" if tls["verified"] else str(variables.get("tls_client_verify_error") or "no")
    return str(each["peer"]), str(each["listener"]), shown, client, str(each["state"]), f"{each['age']:.0f} s"


def _refusal(each: Mapping[str, Any]) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime(each["time"]))
    return (
        f"{moment} {each['peer']} {each['phase']} {each['code']} {each['text']} [{each['decided_by']}] {each['reason']}"
    )


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [min(40, max(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    return ["  ".join(cell[:width].ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _fit(text: str, columns: int) -> str:
    """Give a line that fits, of printable characters alone."""
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return clean if len(clean) <= columns else f"{clean[: columns - 1]}…"
