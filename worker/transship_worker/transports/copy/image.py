"""The copy of one image: looked for at the target, then its blobs, manifests and tags."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from transship.errors import (
    BlobMissing,
    DigestInvalid,
    ImageNotFound,
    ImmutableTag,
    RegistryUnavailable,
)
from transship.model.migration.specification import OnConflict
from transship_worker.concurrency.gather import both, together
from transship_worker.fleet.port import Leads, Place
from transship_worker.oci import digests
from transship_worker.oci.content import ContentSource, ContentTarget, Placed
from transship_worker.oci.descriptors import Descriptor, Manifest
from transship_worker.oci.manifest_memory import current_share
from transship_worker.oci.manifests import ManifestHead, Written
from transship_worker.oci.tagging import write_tag
from transship_worker.transports.copy.foreign import foreign_to_copy
from transship_worker.transports.copy.platforms import SourceReader, for_platforms, left_out
from transship_worker.transports.copy.port import Copied, CopyControl, CopyTask
from transship_worker.transports.copy.referrers import Referrer, Referring
from transship_worker.transports.copy.refused import missing_in, refused_content
from transship_worker.transports.copy.resume import pause
from transship_worker.transports.copy.transfer import Bringing
from transship_worker.transports.copy.tree import Tree, TreeReader, blobs_of, foreign_of

#: Tells ``Leads`` what a source holds; it leads nothing.
SOURCE_HOLDER: Final = "source"
#: Tags that are looked at at once.
REQUESTS_AT_ONCE: Final = 16
#: Manifests and tags that are written at once.
WRITES_AT_ONCE: Final = 4


async def copy_image(
    task: CopyTask,
    source: ContentSource,
    target: ContentTarget,
    leads: Leads,
    control: CopyControl,
    holder: str,
) -> Copied:
    """Copy one image; where the target has it with all its tags, nothing is sent.

    Manifests keep their bytes, so that digests are the same on both sides. A tag is written
    when all that it leads to is there.

    Args:
        task: the image and its tags.
        source: where it is.
        target: where it goes; its repository was prepared.
        leads: who uploads which blob.
        control: the job.
        holder: names the copy for ``leads``: no two that run at once are equal.

    Raises:
        ImageNotFound: the source does not have it, or lacks a platform of it.
        ImmutableTag: a tag of the target is another image, and ``on_conflict`` is ``fail``.
        DigestMismatch: the source is corrupt; nothing was tagged.
        PushError: a side refused or failed.
    """
    return await _ImageCopy(task, source, target, leads, control, holder).run()


class _ImageCopy:
    """One image on its way."""

    def __init__(
        self,
        task: CopyTask,
        source: ContentSource,
        target: ContentTarget,
        leads: Leads,
        control: CopyControl,
        holder: str,
    ) -> None:
        self._task = task
        self._source = source
        self._target = target
        self._leads = leads
        self._control = control
        self._place = Place(target.registry, target.repository, task.scope)
        self._bringing = Bringing(
            self._place, source, target, leads, control, holder, fresh=task.fresh, since=task.since
        )
        self._what = _named(source, task.reference)
        self._reader = TreeReader(self._what)
        self._referring = Referring(source, target, self._reader, control, task.on_conflict)
        self._requests = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._writes = asyncio.Semaphore(WRITES_AT_ONCE)
        #: The index that a subset is of, and what it does not have.
        self._index: Manifest | None = None
        self._left_out: tuple[Descriptor, ...] = ()
        #: Manifests that other copies wrote while this one waited.
        self._there: frozenset[str] = frozenset()
        self._wrote = False
        #: Tags that became another image while this one was brought, and were left alone.
        self._left: list[str] = []

    async def run(self) -> Copied:
        """See ``copy_image``."""
        digest, root, here, heads = await self._look()
        if here and not await self._target.has_image(digest):
            # Its manifest cannot be read, or what it names: all of it is copied again.
            here, heads = False, {tag: _unless(head, digest) for tag, head in heads.items()}
        wanted, kept = self._sorted_tags(digest, heads)
        if not wanted and (not self._task.referrers if here else kept):
            return Copied(digest, skipped=True, kept=kept)
        image, here = await self._content(digest, root, here=here)
        referrers = await self._referring.find(image) if self._task.referrers else []
        share = current_share()
        if share is not None:
            # From here on this copy may hold what the owner of the large share waits for.
            share.may_wait = False
        try:
            await self._bring(image, referrers, wanted, here=here)
            self._there = await self._bringing.turn()
            try:
                await self._write(image, referrers, wanted, here=here)
            except (BlobMissing, DigestInvalid) as error:
                image, here = await self._restored(error, image, referrers, here=here)
                await self._write_again(image, referrers, wanted, here=here)
            await self._bringing.check()
            await self._bringing.end()
        except BaseException:
            await self._bringing.give_up()
            raise
        tagged = tuple(tag for tag in wanted if tag not in self._left)
        return Copied(digest, skipped=not self._wrote, tagged=tagged, kept=(*kept, *self._left))

    async def _restored(
        self,
        error: BlobMissing | DigestInvalid,
        image: Tree,
        referrers: list[Referrer],
        *,
        here: bool,
    ) -> tuple[Tree, bool]:
        """Get ready to write once more: what is to be written, and whether the target has it.

        Raises:
            PushError: the target refuses this content for good.
        """
        written = _manifests(image, referrers)
        if here:
            # The target has the manifest and not all that it names: somebody deleted that. Or a
            # hint about what refers to it was wrong.
            await self._bringing.again()
            whole = await TreeReader(self._what).tree(image.root, self._source.manifest)
            await self._bring(whole, (), (), here=False)
            self._there |= await self._bringing.turn()
            return whole, False
        if isinstance(error, DigestInvalid):
            if not all(one.digest.startswith("sha256:") for one in written):
                # The registry does not know the algorithm.
                raise error
            await pause(1)
        # A hint may have been wrong, or a mount.
        elif not await self._bringing.again(missing_in(error, written)):
            refused = refused_content(error, self._target, written, named_only=True)
            if refused is not None:
                raise refused
            # Or somebody's mount was just rewriting a link there (distribution 2.8).
            await pause(1)
        return image, here

    async def _write_again(
        self, image: Tree, referrers: list[Referrer], tags: tuple[str, ...], *, here: bool
    ) -> None:
        try:
            await self._write(image, referrers, tags, here=here)
        except BlobMissing as error:
            written = _manifests(image, referrers)
            refused = refused_content(error, self._target, written, named_only=False)
            if refused is not None:
                raise refused from error.__cause__
            # The source has all, or it would have been missing there: that passes.
            raise RegistryUnavailable(error.message) from error.__cause__

    async def _look(
        self,
    ) -> tuple[str, Manifest | None, bool, dict[str, ManifestHead | None]]:
        """Digest of what the target is to have; the manifest, where it had to be read; whether
        the target has it; what the target's tags are.
        """
        reference = self._task.reference
        whole = digests.is_digest(reference) and not self._task.platforms
        if self._task.fresh:
            digest, root = (reference, None) if whole else await self._resolved()
            return digest, root, False, dict.fromkeys(self._task.tags)
        if whole:
            # All that is needed, in one way there and back.
            head, heads = await both(self._target.head(reference), self._tag_heads())
            return reference, None, _is_whole(head, reference), heads
        (digest, root), heads = await both(self._resolved(), self._tag_heads())
        here = any(_is_whole(head, digest) for head in heads.values())
        return digest, root, here or _is_whole(await self._target.head(digest), digest), heads

    async def _resolved(self) -> tuple[str, Manifest | None]:
        """Digest of what the target is to have, and the manifest where it had to be read."""
        reference = self._task.reference
        if self._task.platforms:
            index = await self._source.manifest(reference)
            reader = SourceReader(self._source)
            kept = await for_platforms(index, self._task.platforms, self._what, reader)
            self._left_out = left_out(index, kept)
            self._index = index
            return kept.digest, kept
        head = await self._source.head(reference)
        if head is None:
            raise ImageNotFound(f"there is no {self._what}")
        return head.digest, None

    async def _tag_heads(self) -> dict[str, ManifestHead | None]:
        """What the target's tags are now."""
        tags = self._task.tags
        return dict(zip(tags, await together(map(self._tag_head, tags)), strict=True))

    async def _tag_head(self, tag: str) -> ManifestHead | None:
        async with self._requests:
            return await self._target.head(tag, certain=self._spares_others)

    @property
    def _spares_others(self) -> bool:
        """Whether a tag that is another image is not overwritten."""
        return self._task.on_conflict is not OnConflict.OVERWRITE

    def _sorted_tags(
        self, digest: str, heads: dict[str, ManifestHead | None]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Tags to be written, and tags to be left alone."""
        others = tuple(tag for tag, head in heads.items() if head and head.digest != digest)
        if others and self._task.on_conflict is OnConflict.FAIL:
            found = heads[others[0]]
            raise self._conflict(others[0], found.digest if found else "", digest)
        kept = others if self._task.on_conflict is OnConflict.SKIP else ()
        # A tag whose image is damaged is written again with it.
        missing_tags = tuple(
            tag
            for tag, head in heads.items()
            if head is None or (head.digest == digest and not head.complete)
        )
        return (*missing_tags, *(tag for tag in others if tag not in kept)), kept

    def _conflict(self, tag: str, found: str, wanted: str) -> ImmutableTag:
        return ImmutableTag(
            f"{self._target}:{tag} is {found} already, not {wanted}, and on_conflict is fail"
        )

    async def _content(
        self, digest: str, root: Manifest | None, *, here: bool
    ) -> tuple[Tree, bool]:
        """The image, and whether the target has it; its manifests come from the nearer side."""
        if self._index is not None and (self._task.referrers or not here):
            await self._tell_left_out(self._index, digest)
        if here:
            # An index may be there without its manifests: then all of it is copied.
            with suppress(ImageNotFound):
                found = root or await self._target.manifest(digest)
                if not self._task.referrers:
                    return Tree(found), True
                return await TreeReader(self._what).tree(found, self._target.manifest), True
        found = root or await self._source.manifest(digest)
        return await self._reader.tree(found, self._source.manifest), False

    async def _tell_left_out(self, index: Manifest, digest: str) -> None:
        if index.digest == digest:
            return
        self._control.warn(
            f"{self._what}: without its other platforms the index is {digest}, not {index.digest}"
        )
        if self._task.referrers:
            left = (child.digest for child in self._left_out)
            await self._referring.name_left_out((index.digest, *left))

    async def _bring(
        self, image: Tree, referrers: Iterable[Referrer], tags: tuple[str, ...], *, here: bool
    ) -> None:
        """Have all blobs at the target, and the turn of all manifests that are to be written."""
        trees = [*([] if here else [image]), *(one.tree for one in referrers if not one.here)]
        written = {one.digest for tree in trees for one in tree.manifests}
        if tags:
            written.add(image.root.digest)
        blobs = blobs_of(trees)
        foreign = {one: layer for one, layer in foreign_of(trees).items() if one not in blobs}
        if foreign:
            policy = self._task.foreign_layers
            blobs |= await foreign_to_copy(foreign, self._source, policy, self._control)
        if blobs:
            self._control.planned(sum(blob.size for blob in blobs.values()), len(blobs))
            await self._tell_source(blobs)
        if written:
            self._control.checkpoint()
            await self._bringing.bring(blobs, written)

    async def _tell_source(self, blobs: Iterable[str]) -> None:
        """Within one registry the source is where blobs can be mounted from."""
        source = self._source
        if isinstance(source, Placed) and source.registry == self._target.registry:
            place = replace(self._place, repository=source.repository)
            if place != self._place and self._target.can_mount:
                await self._leads.arrived(place, SOURCE_HOLDER, blobs)

    async def _write(
        self, image: Tree, referrers: list[Referrer], tags: tuple[str, ...], *, here: bool
    ) -> None:
        """Write all manifests, the image's own tags last."""
        if not here:
            await self._write_rounds(image)
            # A tag is written with its manifest.
            if referrers or not tags:
                await self._put(image.root)
        for referrer in referrers:
            if not referrer.here:
                await self._write_rounds(referrer.tree)
                if referrer.tag is None:
                    await self._put(referrer.tree.root)
                else:
                    await self._put_tag(referrer.tree.root, referrer.tag)
            elif not await self._lists(referrer.tree.root):
                await self._attach(referrer.tree.root)
        # One after the other: each rewrites the manifest, where a registry keeps it (see ``turn``).
        for tag in tags:
            await self._put_tag(image.root, tag)

    async def _write_rounds(self, tree: Tree) -> None:
        for manifests in tree.rounds:
            await together(map(self._put, manifests))

    async def _put(self, manifest: Manifest) -> None:
        """Write a manifest under its digest, unless another copy just did."""
        if manifest.digest in self._there:
            self._control.alive()
            return
        async with self._writes:
            await self._written(manifest, await self._target.put(manifest.digest, manifest))

    async def _put_tag(self, manifest: Manifest, tag: str) -> None:
        """Write a manifest under a tag, within what is left of the lease."""
        if self._spares_others and not await self._is_free(tag, manifest.digest):
            return
        async with self._writes:
            written = await write_tag(
                self._control,
                str(self._target),
                tag,
                lambda timeout_s: self._target.put(tag, manifest, timeout_s=timeout_s),
            )
            await self._written(manifest, written)

    async def _is_free(self, tag: str, digest: str) -> bool:
        """Whether a tag may be written now: it may have been, while the image was brought.

        Raises:
            ImmutableTag: it is another image, and ``on_conflict`` is ``fail``.
        """
        head = await self._tag_head(tag)
        if head is None or head.digest == digest:
            return True
        if self._task.on_conflict is OnConflict.FAIL:
            raise self._conflict(tag, head.digest, digest)
        self._left.append(tag)
        return False

    async def _written(self, manifest: Manifest, written: Written) -> None:
        self._wrote = True
        self._control.alive()
        await self._bringing.written([manifest])
        if not written.lists_referrers:
            # Whether or not it has the API (distribution-spec 1.1, "Pushing Manifests with
            # Subject"): one that does not say OCI-Subject did not list this manifest.
            await self._attach(manifest)

    async def _lists(self, manifest: Manifest) -> bool:
        return manifest.subject is None or await self._target.lists(manifest)

    async def _attach(self, manifest: Manifest) -> None:
        """Have the target's list name a manifest that refers to another."""
        if manifest.subject is not None:
            async with self._leads.attaching(self._place, manifest.subject.digest):
                await self._target.attach(manifest)


def _manifests(image: Tree, referrers: Iterable[Referrer]) -> tuple[Manifest, ...]:
    """All that a copy writes."""
    return tuple(
        manifest
        for tree in (image, *(one.tree for one in referrers))
        for manifest in tree.manifests
    )


def _is_whole(head: ManifestHead | None, digest: str) -> bool:
    """Whether a look found this manifest, and nothing of it missing or damaged."""
    return head is not None and head.is_whole(digest)


def _unless(head: ManifestHead | None, digest: str) -> ManifestHead | None:
    """What a tag is, unless it is this manifest."""
    return None if head is not None and head.digest == digest else head


def _named(source: ContentSource, reference: str) -> str:
    return f"{source}{'@' if digests.is_digest(reference) else ':'}{reference}"
