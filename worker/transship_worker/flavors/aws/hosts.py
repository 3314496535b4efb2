"""ECR's host names: account, region and kind of endpoint stand in them.

Sources: docs.aws.amazon.com, "Amazon ECR endpoints and quotas" (the forms of the names); the
suffixes of the partitions are those in botocore's ``partitions.json``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: Suffix of a partition's host names by the start of its regions' names; the first fits.
_SUFFIXES: Final = (
    ("cn-", "amazonaws.com.cn"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-iso-", "c2s.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
    ("", "amazonaws.com"),
)
#: The same for dual-stack names; partitions without such names are left out.
_DUAL_STACK_SUFFIXES: Final = (("cn-", "on.amazonwebservices.com.cn"), ("", "on.aws"))

REGION: Final = r"[a-z]{2,4}(?:-[a-z]+)+-\d{1,2}"
_HOST = re.compile(
    r"(?P<account>\d{12})\.(?:dkr\.ecr|(?P<dual>dkr-ecr))(?P<fips>-fips)?"
    rf"\.(?P<region>{REGION})\.(?P<suffix>[a-z0-9.-]+)",
    re.ASCII,
)

EXAMPLE: Final = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ml"


@dataclass(frozen=True, slots=True)
class EcrHost:
    """What an ECR host name says."""

    account: str
    region: str
    fips: bool = False
    dual_stack: bool = False

    @classmethod
    def parse(cls, host: str) -> EcrHost | None:
        """Read a host name; ``None``: it is not one of ECR's.

        Raises:
            ValueError: nearly one: its ending belongs to another partition.
        """
        found = _HOST.fullmatch(host)
        if found is None:
            return None
        region = found["region"]
        table = _DUAL_STACK_SUFFIXES if found["dual"] else _SUFFIXES
        right = next(suffix for start, suffix in table if region.startswith(start))
        if found["suffix"] != right:
            raise ValueError(
                f"uri: the names of region {region} end with {right}; write "
                f"{host.removesuffix(found['suffix'])}{right}"
            )
        return cls(
            account=found["account"],
            region=region,
            fips=found["fips"] is not None,
            dual_stack=found["dual"] is not None,
        )
