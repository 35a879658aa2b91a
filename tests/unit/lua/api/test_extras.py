"""Extras of functions are imported when a script is loaded."""

import subprocess
import sys

import pytest

from triosmtp.lua.api.extras import import_extras

PROGRAM = """
import sys
from triosmtp.lua.api.extras import import_extras
assert import_extras(b"return msys.pcre.match('a', 'b')") == []
print(sorted({"dns", "httpx"} & set(sys.modules)))
assert import_extras(b"msys.dnsLookup('a') local http = require('http.client')") == []
print(sorted({"dns.asyncresolver", "dns._trio_backend", "httpcore", "httpx"} & set(sys.modules)))
"""


def test_only_what_a_script_names_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, encoding="utf-8")
    assert done.stdout.splitlines() == ["[]", "['dns._trio_backend', 'dns.asyncresolver', 'httpcore', 'httpx']"]


@pytest.mark.parametrize(
    ("text", "module", "warning"),
    [
        (b"msys.dnsLookup('a')", "dns.asyncbackend", 'dnspython: pip install "triosmtp[dns]"'),
        (
            b"http.client.new()",
            "triosmtp.http_client.http_client",
            'httpx: pip install "triosmtp',
        ),
    ],
)
def test_a_missing_extra_is_a_warning(text: bytes, module: str, warning: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # its import fails
    (found,) = import_extras(text)
    assert warning in found
