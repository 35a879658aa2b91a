"""Responses to requests that do not reach the application."""

import h11
import pytest

from triosmtp.status.asgi import error_response


@pytest.mark.parametrize("status", [400, 413, 431, 500, 503, 418])
def test_an_error_is_one_complete_response_that_ends_the_connection(status: int) -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost")]))
    client.send(h11.EndOfMessage())
    client.receive_data(error_response(status))
    response, body, end = client.next_event(), client.next_event(), client.next_event()
    assert isinstance(response, h11.Response)
    assert isinstance(body, h11.Data)
    assert isinstance(end, h11.EndOfMessage)
    assert response.status_code == status
    assert bytes(body.data) == response.reason + b"\n"
    assert client.their_state is h11.MUST_CLOSE
    assert client.trailing_data == (b"", False)
