"""A row that comes back from a plan: checked again, like any request."""

from __future__ import annotations

from transship.model.migration.mistakes import Mistake, SpecError
from transship.model.migration.plan import PlanRow
from transship.model.references import ImageReference
from transship_config.errors import TransshipError
from transship_worker.migrate.port import Sides


def check_row(row: PlanRow, sides: Sides, *, what: str = "") -> None:
    """Return if the catalogue lets this row be carried out. Opens no connection.

    The row itself cannot name what lies outside its components: its repositories are names
    under their URIs. ``what`` names it in messages: ``line 3``.

    Raises:
        SpecError: a component is unknown, or may not be used so, or a name is too long there.
        TransshipError: a login cannot be had just now; the row may be checked again later.
    """
    ends = (
        ("source", row.source.registry, row.source.repository),
        ("target", row.target.registry, row.target.repository),
    )
    mistakes = []
    for end, registry, repository in ends:
        key = "registry"
        try:
            sides.side(registry, reading=end == "source")
            key = "repository"
            # A component's URI and a repository may be too long together.
            ImageReference.parse(f"{sides.unified(registry)}/{repository}")
        except TransshipError as error:
            if error.retryable:
                raise
            mistakes.append(Mistake((end, key), error.message))
    if mistakes:
        raise SpecError(mistakes, what=what)
