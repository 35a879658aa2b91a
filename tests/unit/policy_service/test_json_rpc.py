"""JSON-RPC messages of an untrusted client."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.policy_service.json_rpc import ProtocolError, RPCRequest, RPCResponse, encode_json, read_message

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("{", -32700, "not JSON"),
        ("[" * 100_000, -32700, "nested too deeply"),
        ('{"jsonrpc":"2.0","id":NaN,"method":"x"}', -32700, "NaN"),
        ('{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}', -32700, "twice"),
        ("9" * 5000, -32700, "not JSON"),
        ("[]", -32600, "jsonrpc"),
        ('{"id":1,"method":"x"}', -32600, "jsonrpc"),
        ('{"jsonrpc":"2.0","id":{},"method":"x"}', -32600, "id"),
        ('{"jsonrpc":"2.0","id":true,"method":"x"}', -32600, "id"),
        ('{"jsonrpc":"2.0","id":"%s","method":"x"}' % ("x" * 300), -32600, "id: too long"),
        ('{"jsonrpc":"2.0","id":1,"method":5}', -32600, "method"),
        ('{"jsonrpc":"2.0","id":1,"method":"x","params":[1]}', -32602, "params"),
        ('{"jsonrpc":"2.0","id":1}', -32600, "one of method"),
        ('{"jsonrpc":"2.0","id":1,"result":1,"error":{}}', -32600, "one of method"),
    ],
)
def test_what_is_no_message_is_named(text: str, code: int, said: str) -> None:
    with pytest.raises(ProtocolError, match=said) as raised:
        read_message(text)
    assert raised.value.code == code


def test_messages_are_read() -> None:
    assert read_message('{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1}}') == RPCRequest(1, "x", {"a": 1})
    assert read_message('{"jsonrpc":"2.0","method":"x"}') == RPCRequest(None, "x", {})
    assert read_message('{"jsonrpc":"2.0","id":"7-1","result":null}') == RPCResponse("7-1", None, "")
    failed = read_message('{"jsonrpc":"2.0","id":"7-1","error":{"code":1,"message":"a\\r\\nb"}}')
    assert failed == RPCResponse("7-1", None, "'a\\r\\nb'")


@given(value=JSON)
def test_what_is_encoded_is_read_again(value: Any) -> None:
    text = encode_json({"jsonrpc": "2.0", "id": 1, "result": value})
    assert text.isascii()
    assert read_message(text) == RPCResponse(1, value, "")
