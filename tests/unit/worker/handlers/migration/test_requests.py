"""From a row of a plan to the request of its copy."""

from __future__ import annotations

import pytest

from transship.copies import Copy, copy_request
from transship.model.components import Fleet
from transship.model.copy_request import CopyRequest
from transship.model.jobs import JobId
from transship.model.migration.plan import PlanRow
from transship.model.migration.specification import ForeignLayers, Spec
from transship.model.references import RegistryUri
from transship_config.errors import UsageError
from transship_worker.catalog.model import Components
from transship_worker.handlers.migration.requests import row_of
from transship_worker.handlers.registries import Registries

MIGRATION = JobId.new()
DIGEST = f"sha256:{'a' * 64}"


class Uris(Registries):
    """A catalog in which each name is a host."""

    def uri(self, name: str) -> RegistryUri:
        return RegistryUri.parse(f"{name}.example.com")


def row(**fields: object) -> PlanRow:
    return PlanRow.model_validate(
        {
            "migration": MIGRATION,
            "rule": 0,
            "action": "copy",
            "source": {"registry": "old", "repository": "a/cat", "digest": DIGEST},
            "target": {"registry": "new", "repository": "b/cat"},
            "tags": {"v1": "v1"},
            **fields,
        }
    )


@pytest.mark.parametrize("policy", list(ForeignLayers))
def test_a_rows_choices_are_those_of_its_copy(policy: ForeignLayers) -> None:
    given = row(referrers=True, platforms=["linux/arm64"], foreign_layers=policy)
    found = row_of(given, MIGRATION, Uris(Components()), fresh=False).request
    assert isinstance(found, CopyRequest)
    assert found.foreign_layers is policy
    assert found.referrers
    assert [str(one) for one in found.platforms] == ["linux/arm64"]
    assert str(found.source) == f"old.example.com/a/cat@{DIGEST}"


def test_a_rule_and_a_copy_say_what_becomes_of_foreign_layers() -> None:
    rule = {
        "from": {"registry": "old", "repositories": ["a"]},
        "to": {"registry": "new"},
        "foreign_layers": "reference",
    }
    spec = Spec.parse({"version": 1, "name": "test", "rules": [rule]})
    assert spec.rules[0].foreign_layers is ForeignLayers.REFERENCE
    copy = Copy("a.b/c:1", "d.e/f:1", "old", "new", foreign_layers="reference")
    assert copy_request(copy, Fleet(workers=[])).foreign_layers is ForeignLayers.REFERENCE
    wrong = Copy("a.b/c:1", "d.e/f:1", "old", "new", foreign_layers="drop")
    with pytest.raises(UsageError, match=r"foreign_layers: .*'copy' or 'reference'"):
        copy_request(wrong, Fleet(workers=[]))
