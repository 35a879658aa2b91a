"""The files of Known_Recipients: their lines, their size, and how they are read again."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from recipient_files import stanza, write, write_users

from triosmtp.recipients.recipient_file import RecipientFile, RecipientFileError
from triosmtp.testing import open_memory_server


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return write_users(tmp_path)


JUDGE = os.environ.get("TRIOSMTP_JUDGE") == "1"


def test_byte_order_marks_comments_and_quoted_names_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "recipients"
    lines = (
        "first@example.org",
        "tab@example.org\t# x",
        '"a # b"@example.org # x',
        '"lists+*"@example.org',
        '""@example.org',
    )
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join((*lines, "@all.example\t#x", "last+*@example.org\t#")).encode())
    file = RecipientFile(path, fold=False)
    file.check()
    assert not file.faults
    assert all(
        file.holds(local_part, "example.org") for local_part in ("first", "tab", "a # b", "lists+*", "", "last+x")
    )
    assert file.holds("anybody", "all.example")
    assert not any(
        file.holds(local_part, "example.org") for local_part in ("lists+x", "anybody", "a", "last", "\ufefffirst")
    )


async def test_lines_that_are_none_are_skipped_with_a_warning(users: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "triosmtp"):
        async with open_memory_server(stanza(users)):
            pass
    told = [record.getMessage() for record in caplog.records if str(users) in record.getMessage()]
    numbers = [message.partition("line ")[2].partition(":")[0] for message in told]
    assert numbers == ["13", "14", "15", "16", "17", "18"]
    assert "expected user@domain, @domain or user+*@domain" in told[0]
    many = RecipientFile(users, fold=False)
    write(users, "bad\n" * 1000 + "user@example.org")
    many.check()
    assert len(many.faults) == 11
    assert many.faults[-1] == f'"{users}": 990 more lines are not recipients'


def test_reading_a_file_blocks_no_other_session(users: Path) -> None:
    file = RecipientFile(users, fold=False)
    file.check()
    with file._reading:
        assert not file.is_due(100.0)
        file.refresh()  # returns at once
    assert file.is_due(100.0)
    assert not file.is_due(100.5)
    users.unlink()
    with pytest.raises(RecipientFileError, match="No such file"):
        file.check()
    assert file.holds("user", "example.org")


@pytest.mark.skipif(not JUDGE, reason="a million lines: under TRIOSMTP_JUDGE=1")
def test_a_million_lines_in_200_mb(tmp_path: Path) -> None:
    path = tmp_path / "many"
    path.write_text("".join(f"{number:x}.first.lastname@example{number % 7}.org\n" for number in range(1_000_000)))
    program = f"""
import os
from pathlib import Path
from triosmtp.recipients.recipient_file import RecipientFile
file = RecipientFile(Path({str(path)!r}), fold=False)
file.check()
assert file.holds("f423f.first.lastname", "example0.org")
assert not file.holds("f423f.first.lastname", "example1.org")
os.utime(file.path, (1, 1))
file.check()
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200_000, "kB, at most, and while it was read again"


def test_a_line_takes_eight_octets(tmp_path: Path) -> None:
    path = tmp_path / "many"
    path.write_text("".join(f"user.number.{number}@example.org\n" for number in range(50_000)))
    file = RecipientFile(path, fold=False)
    file.check()
    contents = file._contents
    assert contents is not None
    assert sum(each.buffer_info()[1] * each.itemsize for each in contents.hashes) == 8 * 50_000
    assert file.holds("user.number.49999", "example.org")
    assert not file.holds("user.number.50000", "example.org")
