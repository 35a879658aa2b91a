"""The published schema of the policy protocol."""

import json
from importlib.resources import files
from typing import Any, Final

import jsonschema

__all__ = ["DEFINITIONS", "SCHEMA", "validate"]

SCHEMA: Final[dict[str, Any]] = json.loads(
    (files("triosmtp.policy_service") / "schema" / "policy.v1.schema.json").read_text()
)
DEFINITIONS: Final[dict[str, Any]] = SCHEMA["$defs"]


def validate(name: str, value: object) -> None:
    """Validate ``value`` against the definition ``name``.

    :raises jsonschema.ValidationError: if it does not match.
    """
    jsonschema.Draft202012Validator({"$defs": DEFINITIONS, "$ref": f"#/$defs/{name}"}).validate(value)
