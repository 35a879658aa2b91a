"""Files that the user who serves cannot read are named with the folder or file that denies the access."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from triosmtp.daemon.reload_access import read_obstacle


def as_nobody(folder: Path, path: Path) -> str:
    """Return the obstacle for the user nobody, in a process of its own."""
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom triosmtp.daemon.reload_access import read_obstacle\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "print(read_obstacle(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=folder)
    return done.stdout.strip()


def test_a_file_that_can_be_read_has_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    assert read_obstacle(tmp_path / "key") == ""
    assert read_obstacle(tmp_path / "missing") == "No such file or directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_obstacle_is_the_first_that_denies_access(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder.is_relative_to("/tmp/") and folder != Path("/tmp"):
            folder.chmod(0o755)
    live = tmp_path / "live"
    live.mkdir(mode=0o755)
    key = live / "key"
    key.touch(mode=0o600)
    link = tmp_path / "link"
    link.symlink_to(key)
    assert as_nobody(Path("/"), link) == f"no access to {key} (-rw------- root root)"
    live.chmod(0o700)
    assert as_nobody(Path("/"), link) == f"no access to folder {live} (drwx------ root root)"
