"""The names, labels and documentation of the metric families."""

import re

from serve_process import REPOSITORY

from triosmtp.status.metric_family import FAMILIES


def test_every_metric_is_documented_as_the_table_has_it() -> None:
    page = (REPOSITORY / "docs" / "metrics.md").read_text()
    for family in FAMILIES.values():
        labels = ", ".join(f"`{label}`" for label in family.labels)
        assert f"| `{family.name}` | {family.kind} | {labels} | {family.doc} |" in page
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(FAMILIES)


def test_names_follow_the_conventions() -> None:
    for name, family in FAMILIES.items():
        assert re.fullmatch(r"triosmtp_[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") is (family.kind == "counter"), name
        if family.kind == "histogram":
            assert name.endswith(("_seconds", "_bytes")), name
        assert not re.search(r"_(ms|milliseconds|kb|minutes|days|percent)(_|$)", name)
        assert not {"le", "quantile", "instance", "job"} & set(family.labels)
        assert family.doc.endswith(".")
