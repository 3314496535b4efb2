"""From what a comparison found to the rows of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from transship.model.migration.plan import MOST_TAGS, Action, PlanRow, RowSource, RowTarget
from transship.model.migration.specification import OnConflict, Rule, Spec
from transship_worker.migrate.compare import Compared, Image, Standing, listed
from transship_worker.migrate.expand import Failure
from transship_worker.migrate.referrers import named


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one pair of repositories. A pair with many has several batches, one after another.

    All rows of a batch may be carried out at once.
    """

    #: Index of the rule.
    rule: int
    #: The source repository.
    repository: str
    rows: tuple[PlanRow, ...] = ()
    #: It came as soon as it was planned; else it was held until all was, and nothing collides.
    ready: bool = True
    errors: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()


class Rows:
    """Makes the rows of a specification for one migration."""

    def __init__(self, spec: Spec, migration: str) -> None:
        self._spec = spec
        self._migration = migration

    def of(self, found: Compared, *, hub: bool) -> Iterator[tuple[PlanRow, Image | None]]:
        """The rows of a comparison, each with its image if it is to be copied.

        All tags of a digest that are to be right at the end are in one row, also those that are
        right already: so the row has the same id when it is planned again half-way. ``hub``:
        the source is Docker Hub.
        """
        for image in found.images:
            yield from self._written(found, image, hub=hub)
            for standing, action, reason in _LEFT:
                tags = _tags(image, standing)
                for part in _parts(tags):
                    text = reason.format(tags=listed(list(part)))
                    yield self._row(found, image, action, part, reason=text), None
        reason = "immutable tags that the target has are not compared with the source"
        for part in _parts(found.unasked):
            yield self._row(found, None, Action.SKIP, part, reason=reason), None

    def _written(
        self, found: Compared, image: Image, *, hub: bool
    ) -> Iterator[tuple[PlanRow, Image | None]]:
        """Rows of the tags that are right, or are to be made right."""
        missing, other = _tags(image, Standing.ABSENT), _tags(image, Standing.OTHER)
        present, lacking = image.present, image.new_referrers
        rule = self._spec.rules[found.pair.rule]
        for part in _parts_by_policy(rule, _tags(image, Standing.EQUAL) | missing | other):
            if not part.keys() & (missing.keys() | other.keys()):
                yield self._equal(found, image, part, lacking, hub=hub), None
                lacking = []
                continue
            moved = [tag for tag in part if tag in other]
            if present:
                reason = "the target has the image, but not under all of these tags"
            else:
                reason = "the target does not have the image"
            if moved:
                reason += f"; another one is under {listed(moved)}"
            if present:
                yield self._row(found, image, Action.TAG, part, reason=reason), None
                continue
            # What comes after it finds the image there.
            present = True
            size = image.size
            costs: dict[str, object] = {
                "bytes": size.bytes if size else 0,
                "hub_pulls": (size.manifests if size else 1) if hub else 0,
                "creates": found.creates,
            }
            yield self._row(found, image, Action.COPY, part, reason=reason, **costs), image

    def _equal(
        self,
        found: Compared,
        image: Image,
        tags: dict[str, str],
        lacking: list[str],
        *,
        hub: bool,
    ) -> PlanRow:
        """The row of tags that are right; what refers to the image may be new."""
        if not lacking:
            return self._row(found, image, Action.SKIP, tags, reason="the target has it")
        reason = f"the target has the image, but not what refers to it: {named(lacking)}"
        pulls = len(lacking) if hub else 0
        return self._row(found, image, Action.COPY, tags, reason=reason, hub_pulls=pulls)

    def _row(
        self,
        found: Compared,
        image: Image | None,
        action: Action,
        tags: dict[str, str],
        **others: object,
    ) -> PlanRow:
        pair = found.pair
        rule = self._spec.rules[pair.rule]
        return PlanRow.model_validate(
            {
                "migration": self._migration,
                "rule": pair.rule,
                "action": action,
                "source": RowSource(
                    registry=rule.source.registry,
                    repository=pair.source,
                    digest=image.digest if image else "",
                ),
                "target": RowTarget(registry=rule.target.registry, repository=pair.target),
                "tags": tags,
                "media_type": image.media_type if image else "",
                "platforms": rule.platforms,
                "referrers": rule.referrers,
                "foreign_layers": rule.foreign_layers,
                "on_conflict": _policy(rule, tags),
                **others,
            }
        )


#: What is not made right, and why.
_LEFT = (
    (Standing.LEFT, Action.SKIP, "the target has another image under {tags}, which stays"),
    (
        Standing.CONFLICT,
        Action.CONFLICT,
        "the target has another image under {tags}, and on_conflict is fail",
    ),
)


def _tags(image: Image, standing: Standing) -> dict[str, str]:
    return {name: tag for stands, name, tag in image.tags if stands is standing}


def _policy(rule: Rule, tags: dict[str, str]) -> OnConflict:
    """What is done where the target has another image under one of a row's tags by then.

    An immutable tag that somebody wrote since it was planned does not move, whatever the rule.
    """
    if rule.on_conflict is OnConflict.OVERWRITE and any(map(rule.is_immutable, tags.values())):
        return OnConflict.SKIP
    return rule.on_conflict


def _parts_by_policy(rule: Rule, tags: dict[str, str]) -> Iterator[dict[str, str]]:
    """``_parts``, but those of immutable tags are apart."""
    immutable = {name: tag for name, tag in tags.items() if rule.is_immutable(tag)}
    yield from _parts({name: tag for name, tag in tags.items() if name not in immutable})
    yield from _parts(immutable)


def _parts(tags: dict[str, str]) -> Iterator[dict[str, str]]:
    """The tags in an order that is the same each time, as many as a row can have at once."""
    names = sorted(tags)
    for start in range(0, len(names), MOST_TAGS):
        yield {name: tags[name] for name in names[start : start + MOST_TAGS]}
