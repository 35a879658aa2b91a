"""Options of a node, which is one server of several that work together."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from pathlib import Path

from attrs import frozen

from triosmtp.config.option import GLOBAL, option
from triosmtp.config.types.nats_types import NATS_SUBJECT, NODE_NAME
from triosmtp.config.types.option_type import PATH
from triosmtp.config.types.target_url import TargetAddress

__all__ = ["NodeOptions"]


@frozen(slots=False, kw_only=True)
class NodeOptions:
    """Nodes."""

    node_name: str | None = option(
        "Node_Name",
        NODE_NAME,
        None,
        "Name of this server among those that work together, at the beginning of the ids of its sessions and "
        "messages: 1 to 32 letters, digits and hyphens. A delivery to nats:// and Publish_Events require it.",
        scopes=(GLOBAL,),
        reloadable=False,
    )
    publish_events: TargetAddress | None = option(
        "Publish_Events",
        NATS_SUBJECT,
        None,
        "Where the events that observers of the policy service receive are published, at most once: "
        "nats://host[:port],…/subject, with the Node_Name and the name of the event behind the subject.",
        scopes=(GLOBAL,),
        reloadable=False,
    )
    publish_events_credentials_file: Path | None = option(
        "Publish_Events_Credentials_File",
        PATH,
        None,
        "The .creds file with which Publish_Events connects to NATS.",
        scopes=(GLOBAL,),
        reloadable=False,
    )
