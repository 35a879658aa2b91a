"""One screen of ``triosmtp top``: the overview as lines of text that fit a terminal.

The tables share the height.  First each table gets its least number of rows, in the order of importance.  The remaining
rows are distributed in turns among the tables that have more to show.  Every line is cut to the width, and has only
printable characters.
"""

import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any, Final

from attrs import define

__all__ = ["fit", "render"]

_WIDE: Final = 140
"""Columns from which tables have more of them."""
_LEVELS: Final = "▁▂▃▄▅▆▇█"
_LOW: Final = 30
"""Lines below which the chart of handshakes is left out."""
_LOWEST: Final = 14
"""Lines below which there are no charts."""
_KINDS: Final = (("handshakes", "established"), ("messages", "accepted"), ("refused", "refused"))
"""The charts: label and kind."""


@define
class _Block:
    """A table; its title, or the names of its columns, cost a line if any row is shown."""

    title: str
    rows: list[str]
    least: int
    """Rows that it gets before others get more than theirs."""
    share: int = 1
    """Rows that it gets of each round of what is left."""
    shown: int = 0

    def cost(self, rows: int) -> int:
        """Return the lines that so many rows take."""
        return rows + 1 if rows else 0

    def lines(self) -> Iterator[str]:
        """Return what is shown."""
        if self.shown:
            yield f"{self.title}  ({self.shown} of {len(self.rows)})" if self.shown < len(self.rows) else self.title
            yield from self.rows[: self.shown]


def render(value: Mapping[str, Any], columns: int, lines: int, wanted: str = "") -> list[str]:
    """Return the lines of one screen of that size; ``wanted`` filters the sessions."""
    head = _head(value, columns, lines)
    blocks = _blocks(value, columns, wanted)
    order = "problems sessions refusals certificates deliveries targets listens policy workers"
    _share([blocks[name] for name in order.split()], lines - len(head))
    shown = "problems certificates listens workers policy targets deliveries sessions refusals"
    rows = [*head, *(line for name in shown.split() for line in blocks[name].lines())]
    return [fit(row, columns) for row in rows[:lines]]


def _share(blocks: Sequence[_Block], lines: int) -> None:
    """Return how many rows each block shows, the more important ones first."""

    def grant(block: _Block, rows: int) -> bool:
        nonlocal lines
        rows = min(rows, len(block.rows) - block.shown)
        cost = block.cost(block.shown + rows) - block.cost(block.shown)
        while rows and cost > lines:
            rows -= 1
            cost = block.cost(block.shown + rows) - block.cost(block.shown)
        block.shown += rows
        lines -= cost if rows else 0
        return rows > 0

    for block in blocks:
        grant(block, block.least)
    granted = len(blocks)
    while granted:
        granted = sum(grant(block, block.share) for block in blocks)


# The head


def _head(value: Mapping[str, Any], columns: int, lines: int) -> list[str]:
    minute, state = value["per_minute"], value["state"]
    workers = "".join(f"  {number} workers {what}" for what, number in value["workers"].items() if number)
    deaths = f"  {value['worker_deaths']} workers died" if value["worker_deaths"] else ""
    failed = sum(value["last_minutes"]["failed"])
    most = f"  most: {value['verify_errors'][0][0]}" if value["verify_errors"] else ""
    process = (
        f"triosmtp {value['version']} on {value['host']}  {state if value['ready'] else state.upper()}"
        f"  up {_span(value['time'] - value['started'])}{workers}{deaths}  {_clock(value['time'])}"
    )
    lost = ", ".join(f"{name} {number}" for name, number in value["lost_events"].items())
    figures = (
        f"sessions {value['sessions_total']}  TLS {value['handshakes_per_second']:.1f}/s"
        f"  messages {minute['accepted']}/min  refused {minute['refused']}/min"
        f"  undelivered {minute['undelivered']}/min{'  EVENTS LOST: ' * bool(lost)}{lost}"
    )
    if lines < _LOWEST:
        return [process, figures]
    return [
        process,
        figures,
        f"TLS, 5 min: {_counts(value['versions'])}  failed {failed}  groups: {_counts(value['groups'])}",
        f"client certificates: {_counts(value['client_certificates'])}{most}",
        *_charts(value["last_minutes"], value["last_day"], columns, _KINDS[lines < _LOW :]),
    ]


def _charts(
    minutes: Mapping[str, Any], day: Mapping[str, Any], columns: int, kinds: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """Return one line for each kind, with the last minutes and the last day side by side, and their time axis."""
    width = max(10, (columns - 13) // 2 - 12)
    left, right = _axis(minutes, width), _axis(day, width)
    yield f"{'':12} {left} {'':11}{right}"
    for label, kind in kinds:
        charts = [_chart(each[kind], width) for each in (minutes, day)]
        yield f"{label:12} {charts[0]} {charts[1]}".rstrip()


def _axis(chart: Mapping[str, Any], width: int) -> str:
    length = len(chart["accepted"]) * chart["seconds"]
    form = "%H:%M:%S" if chart["seconds"] == 1 else "%H:%M"
    begin = time.strftime(form, time.localtime(chart["begin"]))
    middle = time.strftime(form, time.localtime(chart["begin"] + length / 2))
    end = "now"
    if width < len(begin) + len(end) + 1:
        return begin[:width].ljust(width)
    space = width - len(begin) - len(end)
    return begin + (middle.center(space) if space > len(middle) + 1 else " " * space) + end


def _chart(numbers: Sequence[int], width: int) -> str:
    """Return numbers as blocks, and the total behind them."""
    size = len(numbers)
    bins = [sum(numbers[size * i // width : max(size * i // width + 1, size * (i + 1) // width)]) for i in range(width)]
    top = max(bins)
    bars = "".join(_LEVELS[min(7, n * 8 // (top + 1))] if n else " " for n in bins)
    return f"{bars} {'=' + _short_number(sum(numbers)):10}"


def _short_number(number: int) -> str:
    return f"{number:,}" if number < 1_000_000 else f"{number / 1_000_000:.1f}M"


# The tables


def _blocks(value: Mapping[str, Any], columns: int, wanted: str) -> dict[str, _Block]:
    wide = columns >= _WIDE
    sessions = [row for row in map(_session, value["sessions"]) if wanted.lower() in " ".join(row).lower()]
    names = ("PEER", "LISTEN", "TLS", "CLIENT CERTIFICATE", "STATE", "AGE", "MSGS", "CIPHER")
    width = 8 if wide else 6
    heading, *rows = _table([row[:width] for row in (names, *sessions)], 60 if wide else 28)
    listens_heading, *listens = _table(
        [("LISTEN", "SESSIONS", "MSGS/MIN", "REFUSED/MIN", "TLS/MIN", "FAILED/MIN", "MSGS", "REFUSED")]
        + [_listen(each) for each in value["listeners"]],
        40,
    )
    return {
        "problems": _Block(
            "** NOT IN FORCE **", [line for each in value["problems"] for line in wrap(_problem(each), columns)], 4
        ),
        "certificates": _Block(
            "-- certificates served, the first to end first --",
            [_certificate(each, 3 if wide else 1) for each in value["certificates"]],
            1,
        ),
        "listens": _Block(listens_heading, listens, 2),
        "workers": _Block("-- workers --", list(map(_worker, value["worker_list"])), 1),
        "targets": _Block(
            "-- targets --", [_target(each) for each in sorted(value["targets"], key=lambda each: each["available"])], 2
        ),
        "policy": _Block("-- policy groups --", list(map(_group, value["policy_groups"])), 1),
        "deliveries": _Block("-- failures of delivery --", list(map(_refusal, value["delivery_failures"])), 1),
        "sessions": _Block(heading, rows or ["no sessions"], 2, share=2),
        "refusals": _Block("-- latest refusals --", list(map(_refusal, value["refusals"])) or ["none"], 2, share=2),
    }


def _problem(each: Mapping[str, Any]) -> str:
    stays = "; ".join(
        f"{other['what']}{_until(other['not_after'])}, read {_moment(other['read'])}" for other in each["in_force"]
    )
    return f"{each['what']}: {each['reason']} (since {_moment(each['since'])}).  In force: {stays or 'nothing'}"


def _until(end: float | None) -> str:
    return "" if end is None else f" until {time.strftime('%Y-%m-%d', time.localtime(end))}"


def _certificate(each: Mapping[str, Any], most: int) -> str:
    names = [name.removeprefix("dns:") for name in each["names"] or [each["subject"]]]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    mark = "" if each["mark"] == "fine" else f" ** {each['mark'].upper()} **"
    days = "?" if each["days"] is None else each["days"]
    return f"{days:>5} days left{mark}  {', '.join(names[:most])}{more}  {each['key']}  {each['file']}"


def _listen(each: Mapping[str, Any]) -> tuple[str, ...]:
    minute, total = each["minute"], each["total"]
    numbers = (each["sessions"], minute["accepted"], minute["refused"], minute["established"], minute["failed"])
    return (each["listener"], *map(str, (*numbers, total["accepted"], total["refused"])))


def _worker(each: Mapping[str, Any]) -> str:
    state = "ready" if each["ready"] else "starting"
    number, process, sessions = each["number"], each["process"], each["sessions"]
    return f"worker {number}: process {process}, {state}, {sessions} sessions, up {_span(each['seconds'])}"


def _target(each: Mapping[str, Any]) -> str:
    if not each["available"]:
        state = f"NOT AVAILABLE for {each['failing_seconds']:.0f} s: {each['reason']}"
    else:
        state = f"failing for {each['failing_seconds']:.0f} s" if each["failing_seconds"] else "available"
    latency = "-" if each["latency"] is None else f"{each['latency'] * 1000:.1f} ms"
    answers = ", ".join(f"{each['answers'].get(kind, 0)} {kind}" for kind in ("2xx", "4xx", "5xx", "failed"))
    return f"{each['name']}: {state}, latency {latency}, {each['connections']} connections, answers {answers}"


def _group(each: Mapping[str, Any]) -> str:
    latency = each["latency_ms"]
    return (
        f"{each['group']}: {each['deciders']} deciders, asked {each['asked']}, p50 {latency['p50']} ms, "
        f"p99 {latency['p99']} ms, fallbacks {each['fallbacks']}, breaker {each['breaker']}"
    )


def _session(each: Mapping[str, Any]) -> tuple[str, ...]:
    tls, variables = each["tls"], each["tls_variables"]
    if tls is None:
        shown, client, cipher = "off", "-", "-"
    else:
        shown, cipher = str(tls["protocol"]), str(tls["cipher"])
        client = "verified" if tls["verified"] else str(variables.get("tls_client_verify_error") or "no")
        if subject := variables.get("tls_client_cert_subject"):
            client = f"{client}: {subject}"
    age = _span(each["age"])
    return (
        str(each["peer"]),
        str(each["listener"]),
        shown,
        client,
        str(each["state"]),
        age,
        str(each["messages"]),
        cipher,
    )


def _refusal(each: Mapping[str, Any]) -> str:
    count = f" x{each['count']}" if each["count"] > 1 else ""
    parts = [f"{_clock(each['time'])}{count}", each["peer"], each["phase"], f"{each['code']} {each['text']}".strip()]
    if each["sender"] is not None:
        parts.append(f"from {each['sender']}")
    if each["recipients"]:
        more = f" and {each['recipients_more']} more" if each["recipients_more"] else ""
        parts.append(f"to {', '.join(each['recipients'])}{more}")
    parts.append(f"[{each['decided_by']}]")
    if each["reason"] != each["text"]:
        parts.append(each["reason"])
    return "  ".join((*filter(None, parts), each["listener"], each["tls"] or "no TLS"))


# Text


def _counts(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in values.items()) or "none"


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))


def _moment(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _span(seconds: float) -> str:
    """Return a time in its two largest units."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _table(rows: Sequence[tuple[str, ...]], widest: int) -> list[str]:
    cells = [[_clean(cell) for cell in row] for row in rows]
    widths = [min(widest, max(_width(row[column]) for row in cells)) for column in range(len(cells[0]))]
    return ["  ".join(_pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _pad(text: str, width: int) -> str:
    text = fit(text, width)
    return text + " " * (width - _width(text))


def fit(text: str, columns: int) -> str:
    """Return a line that takes at most so many columns, of printable characters alone."""
    clean = _clean(text)
    if _width(clean) <= columns:
        return clean
    kept, used = [], 0
    for character in clean:
        used += _width(character)
        if used > columns - 1:
            break
        kept.append(character)
    return f"{''.join(kept)}…"


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _width(text: Iterable[str]) -> int:
    """Return the columns that a text takes in a terminal."""
    if isinstance(text, str) and text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
