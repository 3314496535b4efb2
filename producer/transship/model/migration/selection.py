"""Which tags of a repository a rule takes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import BaseModel, Field

from transship.model.migration.fields import MODEL, ExpressionField, Listed, Number, RangeField
from transship.model.migration.versions import order

#: Expressions in one list.
MOST_EXPRESSIONS: Final = 64
#: The largest ``latest``.
MOST_LATEST: Final = 1_000_000

#: Tags that stand for the referrers of a digest: the fallback of the distribution-spec (1.1,
#: "Referrers Tag Schema") and cosign's signatures, attestations and SBOMs.
_REFERRER_TAG = re.compile(r"sha(?:256|512)-[0-9a-f]{64,128}(?:\.(?:sig|att|sbom))?", re.ASCII)


def is_referrer_tag(tag: str) -> bool:
    """Whether a tag stands for what refers to a digest, and is no name of an image."""
    return _REFERRER_TAG.fullmatch(tag) is not None


class TagSelection(BaseModel):
    """The filters of a rule's ``tags``, applied in this order:

    1. tags that stand for referrers are left out: they follow ``referrers``;
    2. ``include``: the tag fits at least one expression (all tags, when there is none);
    3. ``exclude``: the tag fits none;
    4. ``semver``: the tag is a version of the range; what is no version is left out;
    5. ``latest``: of what is left, the last ones by version order.

    Filters on tags alone come first, so that ``latest: 20`` means 20 tags that are wanted.
    """

    model_config = MODEL

    include: Annotated[Listed[ExpressionField], Field(max_length=MOST_EXPRESSIONS)] = Field(
        (), description="a list of regular expressions, such as ['^v[0-9]']"
    )
    exclude: Annotated[Listed[ExpressionField], Field(max_length=MOST_EXPRESSIONS)] = Field(
        (), description="a list of regular expressions, such as ['-rc']"
    )
    semver: RangeField | None = Field(None, description="a version range, such as '>=1.2,<3'")
    latest: Annotated[Number, Field(ge=1, le=MOST_LATEST)] | None = Field(
        None, description="how many tags to take at most, a number from 1 on"
    )

    def takes(self, tag: str) -> bool:
        """Whether a tag passes every filter but ``latest``, which needs all tags."""
        return (
            not is_referrer_tag(tag)
            and (not self.include or any(one.found_in(tag) for one in self.include))
            and not any(one.found_in(tag) for one in self.exclude)
            and (self.semver is None or self.semver.holds(tag))
        )

    def choose(self, tags: Iterable[str]) -> list[str]:
        """The tags that are taken, each once, newest version first.

        The order of ``tags`` does not matter.
        """
        found = sorted({tag for tag in tags if self.takes(tag)}, key=order, reverse=True)
        return found[: self.latest]
