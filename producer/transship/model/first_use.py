"""What pydantic makes at its first use is made before threads push and a process forks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from transship.forks import loading
from transship.model.components import WorkerView
from transship.model.push_request import PushRequest
from transship.model.references import ImageReference
from transship.model.requests import parse_request

_ANY: Final = datetime.fromtimestamp(0, UTC)


def use_pydantic_once() -> None:
    """Write and read a request, and read what a worker publishes.

    Pydantic makes some of what it needs at the first use, behind locks. Such a lock stays locked in
    a child that is forked while another thread holds it.
    """
    with loading():
        request = PushRequest(image=ImageReference.parse("localhost/image:tag"), registry="any")
        request.fingerprint()
        parse_request(request.to_stored())
        worker = WorkerView(name="any", engine=None, started_at=_ANY, seen_at=_ANY)
        WorkerView.model_validate_json(worker.model_dump_json())
