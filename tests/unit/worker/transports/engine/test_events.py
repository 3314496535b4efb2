"""What the events of a push come to."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from transship.model.records import Progress
from transship_worker.transports.engine.events import LONGEST_ID, MOST_LAYERS, PushStream

DIGEST = "sha256:" + "a" * 64


def fed(*events: dict[str, Any]) -> PushStream:
    stream = PushStream()
    for event in events:
        stream.feed(event)
    return stream


def pushing(layer: str, current: int, total: int | None) -> dict[str, Any]:
    detail = {"current": current} if total is None else {"current": current, "total": total}
    return {"id": layer, "status": "Pushing", "progressDetail": detail}


def status(layer: str, text: str) -> dict[str, Any]:
    return {"id": layer, "status": text, "progressDetail": {}}


def test_a_whole_push_of_two_layers_ends_with_all_bytes_and_its_digest() -> None:
    # As Docker Engine 20.10 sent it, with its counts beyond the totals.
    stream = fed(
        {"status": "The push refers to repository [127.0.0.1:5000/a/b]"},
        status("one", "Preparing"),
        status("two", "Preparing"),
        pushing("two", 512, 1000),
        pushing("two", 10240, 1000),
        pushing("one", 512, 500),
        status("two", "Pushed"),
        status("one", "Pushed"),
        {"status": f"1: digest: {DIGEST} size: 731"},
        {"progressDetail": {}, "aux": {"Tag": "1", "Digest": DIGEST, "Size": 731}},
    )
    assert stream.digest == DIGEST
    assert stream.error is None
    assert stream.progress == Progress(
        bytes_done=1500, bytes_total=1500, layers_done=2, layers_total=2
    )


def test_layers_that_the_registry_has_are_done_and_cost_no_bytes() -> None:
    stream = fed(status("one", "Layer already exists"), status("two", "Mounted from a/b"))
    assert stream.progress == Progress(layers_done=2, layers_total=2)


def test_a_layer_that_starts_again_does_not_go_backwards() -> None:
    stream = fed(
        pushing("one", 700, 1000), status("one", "Retrying in 5 seconds"), pushing("one", 10, 1000)
    )
    assert stream.progress.bytes_done == 700


def test_without_a_total_what_has_gone_is_all_there_is() -> None:
    stream = fed(pushing("one", 700, None))
    assert (stream.progress.bytes_done, stream.progress.bytes_total) == (700, 700)
    stream.feed(pushing("one", 800, 5000))
    assert (stream.progress.bytes_done, stream.progress.bytes_total) == (800, 5000)


def test_the_first_error_in_the_stream_counts_and_its_detail_before_its_short_form() -> None:
    stream = fed(
        {"errorDetail": {"message": "denied: no"}, "error": "denied"}, {"error": "another"}
    )
    assert stream.error == "denied: no"
    assert fed({"error": "plain"}).error == "plain"


def test_a_manifest_pushed_instead_of_its_index_is_noted_and_is_no_digest_by_itself() -> None:
    # moby api/types/auxprogress, sent by engines with the containerd image store.
    aux = {
        "manifestPushedInsteadOfIndex": True,
        "originalIndex": {"digest": "sha256:" + "b" * 64},
        "selectedManifest": {"digest": DIGEST},
    }
    stream = fed({"aux": aux})
    assert stream.digest is None
    assert stream.instead_of == "sha256:" + "b" * 64


def test_the_digest_is_read_from_the_status_line_where_no_aux_names_it() -> None:
    # As Docker Engine 28.5 with the containerd image store and Podman 5.8 sent it.
    stream = fed(
        {"status": "The push refers to repository [127.0.0.1:5000/a/b]"},
        status("0a1b2c3d4e5f", "Pushed"),
        {"status": f"v1.2-rc_3: digest: {DIGEST} size: 1609"},
    )
    assert stream.digest == DIGEST
    assert stream.progress == Progress(layers_done=1, layers_total=1)


def test_what_only_resembles_a_status_line_names_no_digest() -> None:
    stream = fed(
        {"status": "1: digest: sha256:abc size: 7"},
        {"status": f"1: digest: {DIGEST} size: many"},
        {"status": f"say 1: digest: {DIGEST} size: 7 or so"},
        {"id": "0a1b2c3d4e5f", "status": f"1: digest: {DIGEST} size: 7"},
        {"aux": {"Digest": "latest"}},
    )
    assert stream.digest is None


def test_a_manifest_pushed_instead_of_an_index_is_the_one_that_the_status_line_names() -> None:
    index = "sha256:" + "b" * 64
    aux = {
        "manifestPushedInsteadOfIndex": True,
        "originalIndex": {"digest": index},
        "selectedManifest": {"digest": DIGEST},
    }
    stream = fed({"aux": aux}, {"status": f"1: digest: {DIGEST} size: 7"})
    assert (stream.digest, stream.instead_of, stream.selected) == (DIGEST, index, DIGEST)


def test_events_that_are_not_understood_change_nothing() -> None:
    stream = fed(
        {},
        {"aux": "text"},
        {"aux": {"Digest": 7}},
        {"id": 3, "status": "Pushing"},
        {"id": "latest", "status": "Something new"},
        {"id": "one", "status": "Pushing", "progressDetail": None},
        {"id": "one", "status": "Pushing", "progressDetail": {"current": "x", "total": -4}},
        {"errorDetail": "text"},
    )
    assert stream.digest is None
    assert stream.error is None
    assert stream.progress == Progress(layers_total=1)


_NUMBERS = st.one_of(st.none(), st.integers(min_value=-10, max_value=10**13), st.text(max_size=3))
_STATUSES = st.sampled_from(
    [
        "Preparing",
        "Waiting",
        "Pushing",
        "Pushing",
        "Pushing",
        "Retrying in 5 seconds",
        "Pushed",
        "Layer already exists",
        "Mounted from a/b",
        "Whatever",
    ]
)
_EVENTS = st.builds(
    lambda layer, text, current, total: {
        "id": layer,
        "status": text,
        "progressDetail": {"current": current, "total": total},
    },
    st.sampled_from(["one", "two", "three"]),
    _STATUSES,
    _NUMBERS,
    _NUMBERS,
)


@given(st.lists(_EVENTS, max_size=60))
def test_no_number_ever_goes_backwards_or_beyond_its_total(events: list[dict[str, Any]]) -> None:
    stream = PushStream()
    seen = [stream.progress]
    for event in events:
        stream.feed(event)
        seen.append(stream.progress)
    for before, after in itertools.pairwise(seen):
        assert before.bytes_done <= after.bytes_done <= after.bytes_total
        assert before.bytes_total <= after.bytes_total
        assert before.layers_done <= after.layers_done <= after.layers_total
        assert before.layers_total <= after.layers_total


@given(st.lists(_EVENTS, max_size=60))
def test_when_every_layer_is_done_so_is_every_byte(events: list[dict[str, Any]]) -> None:
    stream = fed(*events, *(status(name, "Pushed") for name in ("one", "two", "three")))
    progress = stream.progress
    assert progress.layers_done == progress.layers_total == 3
    assert progress.bytes_done == progress.bytes_total


def test_layers_without_end_are_counted_up_to_a_bound() -> None:
    stream = PushStream()
    for number in range(MOST_LAYERS + 1000):
        stream.feed(pushing(f"{number:x}", 5, 10))
    stream.feed(status("f" * (LONGEST_ID + 1), "Pushed"))
    stream.feed(status("0", "Pushed"))

    assert stream.progress == Progress(
        bytes_done=5 * MOST_LAYERS + 5,
        bytes_total=10 * MOST_LAYERS,
        layers_done=1,
        layers_total=MOST_LAYERS,
    )
    assert stream.new == (10 * MOST_LAYERS, 5 * MOST_LAYERS + 5)
