"""Every example of the protocol's pages fits its schema, and every message has a page."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from policy_schema import SCHEMA, validate

from triosmtp.event import ServerEvent
from triosmtp.policy import PHASES
from triosmtp.policy_service import event_notification
from triosmtp.policy_service.event_notification import EVENT_NOTIFICATIONS
from triosmtp.policy_service.registration import NOTIFICATIONS

PAGES = Path(__file__).parents[3] / "docs" / "policy-protocol"
FOLDER = files("triosmtp.policy_service") / "schema"
API = json.loads((FOLDER / "asyncapi.json").read_text())

EXAMPLES = [
    (path.name, number, json.loads(text))
    for path in sorted(PAGES.glob("*.md"))
    for number, text in enumerate(re.findall(r"```json\n(.*?)```", path.read_text(), re.DOTALL))
]


@pytest.mark.parametrize(("page", "number", "message"), EXAMPLES)
def test_an_example_fits_its_schema(page: str, number: int, message: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(message)
    if "method" in message:
        assert message["method"].replace(".", "_") == page.removesuffix(".md")
        validate(message["method"], message)
    elif "error" in message:
        validate("error", message)
    elif page == "answer.md":
        validate("answer", message)
    elif page == "initialize.md":
        validate("server", message["result"])
    else:
        name = page.removesuffix(".md").replace("_", ".", 1)
        validate(f"{name}.result", message["result"])


def test_every_message_has_a_page_with_an_example() -> None:
    methods = {name for name, schema in SCHEMA["$defs"].items() if "method" in schema.get("properties", {})}
    assert len(methods) > 30
    assert methods == {message["method"] for _, _, message in EXAMPLES if "method" in message}


def notifications() -> set[str]:
    """Return the methods of the notifications that the server makes, from the code that makes them."""
    return set(re.findall(r'EventNotification\(\s*"([a-z_.]+)"', Path(str(event_notification.__file__)).read_text()))


def test_every_notification_can_be_requested_and_has_a_schema() -> None:
    assert set(EVENT_NOTIFICATIONS) <= set(get_args(ServerEvent))
    assert notifications() == set(NOTIFICATIONS)
    assert set(NOTIFICATIONS) <= set(SCHEMA["$defs"])
    assert SCHEMA["$defs"]["server"]["properties"]["notifications"]["items"]["enum"] == list(NOTIFICATIONS)


def test_every_phase_is_in_the_schema() -> None:
    assert SCHEMA["$defs"]["phase"]["enum"] == list(PHASES)


def test_both_documents_list_every_message() -> None:
    methods = {name for name, schema in SCHEMA["$defs"].items() if "method" in schema.get("properties", {})}
    assert {f"#/$defs/{name}" for name in methods} <= {each["$ref"] for each in SCHEMA["anyOf"]}
    names = {name.replace(".", "_") for name in methods}
    operations = [each["$ref"].rpartition("/")[2] for row in API["operations"].values() for each in row["messages"]]
    assert names <= set(API["components"]["messages"])
    assert names <= set(API["channels"]["policy"]["messages"])
    assert names == set(operations)
    assert {f"validate_{phase}" for phase in PHASES} <= names


def test_the_schemas_are_schemas_and_everything_they_refer_to_is_there() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for reference in re.findall(r'"\$ref": "#/\$defs/([^"]+)"', json.dumps(SCHEMA)):
        assert reference in SCHEMA["$defs"]


def test_the_asyncapi_document_holds_together() -> None:
    assert API["asyncapi"] == "3.0.0"
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(API)):
        file, _, path = reference.partition("#/")
        found = {"": API, "policy.v1.schema.json": SCHEMA}[file]
        for part in path.split("/"):
            found = found[part]
    assert set(API["operations"]) == {"ask", "notify", "initialize", "control"}


def test_a_schema_refuses() -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate("verdict", {"decision": "accept"})
    with pytest.raises(jsonschema.ValidationError):
        validate("session.tls", {"jsonrpc": "2.0", "method": "session.tls", "params": {"sequence": 0}})
