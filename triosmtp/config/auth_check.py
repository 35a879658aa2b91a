"""The check of Auth_Service: a scope that names it names no file of passwords."""

from triosmtp.config.options import OPTIONS
from triosmtp.config.resolution import PASSWORD_FILES, has_password_file
from triosmtp.config.scope import Block
from triosmtp.config.source import Problems

__all__ = ["check_auth_services"]


def check_auth_services(block: Block, problems: Problems) -> None:
    """Report each scope, from ``block`` down, that has both an Auth_Service and a file of passwords."""
    assignment = block.assignments.get("auth_service")
    if assignment is not None and has_password_file(block):
        names = [OPTIONS[field].name for field in sorted(PASSWORD_FILES & block.assignments.keys())]
        problems.error(
            assignment.place,
            f"Auth_Service: {block} has {names[0]} too: passwords are checked by the service or with a file, not both",
        )
    for child in block.children.values():
        check_auth_services(child, problems)
