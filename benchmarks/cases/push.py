"""Pushes from a Docker Engine of one's own, each into a fresh registry."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import docker

from benchmarks import images, peers
from benchmarks.fleet import Fleet
from benchmarks.images import MadeTar
from benchmarks.measure import OURS, Case, Figure, Kind, Limit, Pair, Side, Wanted
from benchmarks.servers import Ground, Place
from tests.support.images.corpus import KIB, MIB, Layer
from tests.support.servers.dockerd import DockerDaemon

_PROCESS = f"{OURS}, whole process"
_SIDES = (OURS, _PROCESS, peers.DOCKER_PUSH, peers.DOCKER_SDK)
_NAME = "bench/app:v1"
#: What the registry holds of an image.
COMPRESSED = "compressed MiB"
#: Unit: s.
_NO_MORE_THAN = Limit(0.150, Kind.MORE_BY)

#: Pushes an image of this name. Unit: s.
Pusher = Callable[[str], float]


class _Push(Case):
    """Each round and side has a registry of its own, and the same image."""

    programs = (*Case.programs, "docker", "dockerd")
    root = True

    @abstractmethod
    def _image(self, client: docker.DockerClient, ground: Ground) -> str:
        """Make the image; its id."""

    @contextmanager
    def sides(self, ground: Ground, rounds: int, wanted: Wanted) -> Iterator[list[Side]]:
        """One engine for all: what it holds of the image is equally warm for each."""
        names = _chosen(wanted)
        with ExitStack() as stack:
            engine = stack.enter_context(DockerDaemon())
            client = images.patient(engine.client())
            stack.callback(client.close)
            image = self._image(client, ground)
            targets = {
                name: [stack.enter_context(ground.registry()) for _ in range(rounds)]
                for name in names
            }
            places = [place for one in targets.values() for place in one]
            pushers = _pushers(stack, ground, engine, client, places)

            def side(name: str) -> Side:
                def run(number: int) -> Figure:
                    place = targets[name][number]
                    client.api.tag(image, f"{place.address}/bench/app", "v1")
                    took = pushers[name](f"{place.address}/{_NAME}")
                    size = _check(place, image)
                    place.discard()
                    return Figure(took, {COMPRESSED: size / MIB})

                return Side(name, run)

            yield [side(name) for name in names]


class PushLayer(_Push):
    """One layer that no compression makes smaller."""

    name = "push-layer"
    title = "push of one incompressible layer of 300 MiB from the Docker Engine"
    limits = MappingProxyType({peers.DOCKER_PUSH: Limit(0.48)})

    def _image(self, client: docker.DockerClient, ground: Ground) -> str:
        layer = Layer("push", ground.choose(300 * MIB, MIB))
        return images.load(client, [MadeTar(layer)], self.name)


class PushRootfs(_Push):
    """One layer of a real system's files."""

    name = "push-rootfs"
    title = "push of a real root file system of 230 MB (this machine's programs and libraries)"
    limits = MappingProxyType({peers.DOCKER_PUSH: Limit(0.45)})

    def _image(self, client: docker.DockerClient, ground: Ground) -> str:
        with TemporaryDirectory(prefix="bench-") as folder:
            size = ground.choose(230_000_000, 1_000_000)
            tar = images.root_file_system(Path(folder) / "layer.tar", size)
            return images.load(client, [tar], self.name)

    def pairs(self, names: Sequence[str]) -> list[Pair]:
        """Also how large it becomes."""
        found = super().pairs(names)
        size = Pair(peers.DOCKER_PUSH, Limit(1.15), what=COMPRESSED)
        return found + [size for pair in found if pair.theirs == peers.DOCKER_PUSH]


class PushTiny(_Push):
    """Next to nothing to send: what a push costs by itself."""

    name = "push-tiny"
    title = "push of an image of 4 KiB"
    limits = MappingProxyType({peers.DOCKER_PUSH: _NO_MORE_THAN})

    def _image(self, client: docker.DockerClient, ground: Ground) -> str:  # noqa: ARG002 - tiny
        return images.load(client, [MadeTar(Layer("push-tiny", 4 * KIB))], self.name)


class PushTop(Case):
    """The usual rebuild: of a large image only the top is new.

    All sides share a registry, which holds the base from before; the engine that pushes it now
    has pushed it then. Each round and side has a top layer of its own.
    """

    name = "push-top"
    title = "push where a layer of 1 MiB is new on a base of 2 GiB that the registry has"
    limits = MappingProxyType({peers.DOCKER_PUSH: _NO_MORE_THAN})
    programs = _Push.programs
    root = True

    @contextmanager
    def sides(self, ground: Ground, rounds: int, wanted: Wanted) -> Iterator[list[Side]]:
        """Push the base, and make all images."""
        names = _chosen(wanted)
        with ExitStack() as stack:
            engine = stack.enter_context(DockerDaemon())
            client = images.patient(engine.client())
            stack.callback(client.close)
            place = stack.enter_context(ground.registry())
            size = ground.choose(512 * MIB, 2 * MIB)
            base = [MadeTar(Layer(f"base/{number}", size)) for number in range(4)]
            client.api.tag(images.load(client, base, "base"), f"{place.address}/bench/app", "base")
            peers.sdk_push(client, f"{place.address}/bench/app:base")
            held = [images.HeldTar(layer.diff_id) for layer in base]
            tops = {
                (name, number): images.load(client, [*held, _top(name, number)], "top")
                for name in names
                for number in range(rounds)
            }
            pushers = _pushers(stack, ground, engine, client, [place])

            def side(name: str) -> Side:
                def run(number: int) -> float:
                    tag = f"v{_SIDES.index(name)}-{number}"
                    image = tops[name, number]
                    client.api.tag(image, f"{place.address}/bench/app", tag)
                    took = pushers[name](f"{place.address}/bench/app:{tag}")
                    _check(place, image, tag)
                    return took

                return Side(name, run)

            yield [side(name) for name in names]


def _top(name: str, number: int) -> MadeTar:
    return MadeTar(Layer(f"top/{name}/{number}", MIB))


def _chosen(wanted: Wanted) -> list[str]:
    return [name for name in _SIDES if (wanted.ours if name.startswith(OURS) else wanted.peers)]


def _pushers(
    stack: ExitStack,
    ground: Ground,
    engine: DockerDaemon,
    client: docker.DockerClient,
    places: Sequence[Place],
) -> Mapping[str, Pusher]:
    """How each side pushes. Ours has pushed something before: in use, it is not at its first."""
    warm = stack.enter_context(ground.registry())
    components = {f"target{number}": place for number, place in enumerate([*places, warm])}
    fleet = stack.enter_context(Fleet(components, engine=engine))
    image = images.load(client, [MadeTar(Layer("warm", 4 * KIB))], "warm")
    client.api.tag(image, f"{warm.address}/bench/app", "v1")

    def submitted(name: str) -> float:
        begin = time.perf_counter()
        fleet.client.push(name).wait()
        return time.perf_counter() - begin

    submitted(f"{warm.address}/{_NAME}")
    return {
        OURS: submitted,
        _PROCESS: lambda name: fleet.command("push", name, "--wait"),
        peers.DOCKER_PUSH: lambda name: peers.docker_push(engine, name),
        peers.DOCKER_SDK: lambda name: peers.sdk_push(client, name),
    }


def _check(place: Place, image: str, tag: str = "v1") -> int:
    """Fail unless the registry has this very image; what its layers take there. Unit: bytes."""
    manifest = place.registry.manifest("bench/app", tag)
    assert manifest["config"]["digest"] == image, f"{manifest['config']} is not {image}"
    return images.compressed(manifest)
