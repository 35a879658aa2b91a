"""Includes: files and folders, the order of look-up, the names in positions, and the bounds."""

import os
from pathlib import Path

import pytest

from triosmtp.config import Settings, load_config, parse_config
from triosmtp.errors import ConfigError

LISTENER = 'ESMTP_Listener { Listen ":25" { } }\n'


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "e.conf"


def settings(path: Path) -> Settings:
    config = load_config(path)
    return config.resolve(config.listens[0], None)


def told(path: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


@pytest.mark.parametrize("word", ["include", "readonly_include", "Include"])
def test_a_file(tmp_path: Path, word: str) -> None:
    path = write(tmp_path, {"e.conf": f'{word} "a.conf"\n{LISTENER}', "a.conf": "Idle_Time = 7"})
    assert settings(path).idle_time == 7.0
    assert str(settings(path).origins["idle_time"]) == "a.conf:1:13"


def test_in_any_scope(tmp_path: Path) -> None:
    main = (
        'Pathway_Group "g" { include "g.conf" }\nPathway = "p"\n'
        'ESMTP_Listener { include "l.conf" Listen ":25" { include "s.conf" Peer "10.0.0.0/8" { include "s.conf" } } }'
    )
    files = {
        "e.conf": main,
        "g.conf": 'Pathway "p" { Max_Message_Size = 5 }',
        "l.conf": "Idle_Time = 7",
        "s.conf": "Max_Command_Errors = 3",
    }
    found = settings(write(tmp_path, files))
    assert (found.max_message_size, found.idle_time, found.max_command_errors) == (5, 7.0, 3)


def test_a_folder_in_alphabetical_order_without_hidden_files_and_sub_folders(tmp_path: Path) -> None:
    files = {
        "e.conf": f'include "conf.d/"\n{LISTENER}',
        "conf.d/20.conf": "Idle_Time = 20",
        "conf.d/10.conf": "Idle_Time = 10\nMax_Message_Size = 10",
        "conf.d/.hidden": "}",
        "conf.d/sub/x.conf": "}",
    }
    found = settings(write(tmp_path, files))
    assert (found.idle_time, found.max_message_size) == (20.0, 10)
    assert str(found.origins["idle_time"]) == "conf.d/20.conf:1:13"


def test_next_to_the_including_file_then_next_to_the_main_file(tmp_path: Path) -> None:
    files = {
        "e.conf": f'include "sub/a.conf"\n{LISTENER}',
        "sub/a.conf": 'include "b.conf"\ninclude "c.conf"',
        "sub/b.conf": "Idle_Time = 1",
        "b.conf": "Idle_Time = 2",
        "c.conf": "Max_Message_Size = 3",
    }
    found = settings(write(tmp_path, files))
    assert (found.idle_time, found.max_message_size) == (1.0, 3)


def test_a_path_in_an_included_file_is_meant_from_its_own_folder(tmp_path: Path) -> None:
    files = {"e.conf": f'include "tls/a.conf"\n{LISTENER}', "tls/a.conf": 'TLS_Certificate = "cert.pem"'}
    assert settings(write(tmp_path, files)).tls_certificate == (tmp_path / "tls/cert.pem",)


def test_the_same_file_twice_is_no_cycle(tmp_path: Path) -> None:
    path = write(tmp_path, {"e.conf": f"include 'a.conf' include 'a.conf'\n{LISTENER}", "a.conf": "Idle_Time = 7"})
    assert settings(path).idle_time == 7.0


def test_errors_name_the_file_as_it_was_included(tmp_path: Path) -> None:
    path = write(tmp_path, {"e.conf": f'Foo = 1\ninclude "a.conf"\nBar = 2\n{LISTENER}', "a.conf": "\n  Idle_Tme = 7"})
    assert told(path).splitlines()[::3] == [
        f"{path}:1:1: error: unknown option Foo",
        f"{path}:3:1: error: unknown option Bar",
        "a.conf:2:3: error: unknown option Idle_Tme; did you mean Idle_Time?",
    ]


def test_braces_close_in_the_file_that_opened_them(tmp_path: Path) -> None:
    path = write(tmp_path, {"e.conf": 'include "a.conf" } }', "a.conf": 'ESMTP_Listener { Listen ":25" {'})
    assert "a.conf:1:31: error: this `{` is never closed" in told(path)
    assert f"{path}:1:18: error: this `}}` closes nothing" in told(path)


def test_a_missing_include_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, {"e.conf": f'include "sub/a.conf"\n{LISTENER}', "sub/a.conf": 'include "nope.conf"'})
    looked_for = f"{tmp_path}/sub/nope.conf and no {tmp_path}/nope.conf"
    assert told(path).splitlines()[0] == f"sub/a.conf:1:9: error: cannot include nope.conf: there is no {looked_for}"


def test_the_main_file_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "nope.conf"
    assert told(path) == f"error: cannot read {path}: No such file or directory"
    assert told(tmp_path) == f"error: cannot read {tmp_path}: Is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, {"e.conf": LISTENER})
    path.chmod(0)
    assert told(path) == f"error: cannot read {path}: Permission denied"


@pytest.mark.parametrize("text", ["include 'e.conf'", "include 'a.conf'", "include '.'"])
def test_a_file_that_includes_itself(tmp_path: Path, text: str) -> None:
    path = write(
        tmp_path, {"e.conf": text + "\n" + LISTENER, "a.conf": "include 'b.conf'", "b.conf": "include 'a.conf'"}
    )
    assert "includes itself" in told(path)


def test_includes_are_bounded_in_depth(tmp_path: Path) -> None:
    files = {f"{i}.conf": f"include '{i + 1}.conf'" for i in range(30)}
    path = write(tmp_path, {"e.conf": f"include '0.conf'\n{LISTENER}", "30.conf": "", **files})
    assert "15.conf:1:9: error: includes stand in each other more than 16 deep" in told(path)


def test_includes_are_bounded_in_number(tmp_path: Path) -> None:
    files = {f"{i}.conf": f"include '{i + 1}.conf' " * 9 for i in range(9)}
    path = write(tmp_path, {"e.conf": f"include '0.conf'\n{LISTENER}", "9.conf": "", **files})
    assert "a configuration has at most 1000 files" in told(path)


def test_files_are_bounded_in_size(tmp_path: Path) -> None:
    path = write(tmp_path, {"e.conf": LISTENER + "#" * (4 << 20)})
    assert told(path) == f"error: cannot read {path}: a configuration has at most 4 MiB"
    assert "a configuration has at most 4 MiB" in told("/dev/zero")


def test_text_without_a_folder_cannot_include(tmp_path: Path) -> None:
    write(tmp_path, {"a.conf": "Idle_Time = 7"})
    text = f"include 'a.conf'\n{LISTENER}"
    config = parse_config(text, folder=tmp_path)
    assert config.resolve(config.listens[0], None).idle_time == 7.0
    with pytest.raises(ConfigError, match=r"cannot include a\.conf"):
        parse_config(text)


def test_a_file_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"e.conf": "Foo = 1\n" + LISTENER})
    monkeypatch.chdir(tmp_path)
    assert told("e.conf").startswith("e.conf:1:1: ")
    assert told("./e.conf").startswith("./e.conf:1:1: ")


def test_the_folder_of_the_main_file_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"e.conf": "TLS_Key = key.pem\n" + LISTENER})
    monkeypatch.chdir(tmp_path)
    config = load_config("e.conf")
    assert config.folder == tmp_path
    assert config.resolve(config.listens[0], None).tls_key == (tmp_path / "key.pem",)
