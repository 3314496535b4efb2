"""From a row of a plan to what the ledger holds of it."""

from __future__ import annotations

from dataclasses import replace

from transship.errors import NotAllowed
from transship.model.copy_request import MIGRATION_EXPIRES_S, CopyRequest
from transship.model.jobs import JobId
from transship.model.migration.plan import Action, PlanRow
from transship.model.on_behalf_of import OnBehalfOf
from transship.model.records import ErrorInfo
from transship.model.references import ImageReference, RegistryUri
from transship.model.rights import EVERYTHING, Rights, refusal
from transship_worker.handlers.registries import Registries
from transship_worker.jobs.claim_results import Row

#: The code of a row that its rule forbids: the target has another image under a tag.
CONFLICT = "tag_conflict"


def row_of(
    row: PlanRow,
    migration: JobId,
    registries: Registries,
    *,
    fresh: bool,
    rights: Rights = EVERYTHING,
    on_behalf_of: OnBehalfOf | None = None,
) -> Row:
    """The row as a job of the ledger, or as images that need none.

    ``fresh``: it was planned just now, and not for a file that people keep. ``rights``: those of
    its account; a row that they do not cover fails at once. ``on_behalf_of``: the migration's.

    Raises:
        TransshipError: a component is not known any more.
    """
    row = row if row.migration == migration else row.model_copy(update={"migration": migration})
    if row.action is Action.SKIP:
        return Row(row.id, None, skipped=1)
    source = _reference(registries.uri(row.source.registry), row.source.repository)
    target = _reference(registries.uri(row.target.registry), row.target.repository)
    tags = sorted(row.tags)
    request = CopyRequest(
        image=replace(target, tag=tags[0]) if tags else replace(target, digest=row.source.digest),
        registry=row.target.registry,
        source=replace(source, digest=row.source.digest),
        source_registry=row.source.registry,
        more_tags=tuple(tags[1:]),
        platforms=row.platforms,
        referrers=row.referrers,
        foreign_layers=row.foreign_layers,
        on_conflict=row.on_conflict,
        migration=migration,
        creates=row.creates and fresh,
        size=row.bytes,
        expires_s=MIGRATION_EXPIRES_S,
        on_behalf_of=on_behalf_of,
    )
    error = None
    if (problem := refusal(request.accesses, rights, registries.uri)) is not None:
        error = ErrorInfo(code=NotAllowed.code, message=problem, retryable=False)
    elif row.action is Action.CONFLICT:
        error = ErrorInfo(code=CONFLICT, message=row.reason, retryable=False)
    return Row(row.id, request, error=error)


def _reference(uri: RegistryUri, repository: str) -> ImageReference:
    # Parsed, since names on Docker Hub have a long form.
    return ImageReference.parse(f"{uri}/{repository}")
