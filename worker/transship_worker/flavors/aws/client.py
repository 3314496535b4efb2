"""boto3 clients for ECR, made from what a component says."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from transship_config import __version__
from transship_worker.flavors.aws.errors import translated
from transship_worker.flavors.sdk import check_boto3_proxy, needed

#: A role's credentials are asked for anew this long before their end.
ROLE_MARGIN: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose rights are used; all unset: botocore's chain (variables, profile, role of the host)."""

    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None
    role_arn: str | None = None

    @property
    def key(self) -> tuple[str | None, ...]:
        """What tells two identities apart, without their secrets."""
        return (self.access_key_id, self.profile, self.role_arn)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Which ECR API is meant."""

    region: str
    fips: bool = False
    dual_stack: bool = False
    #: Instead of AWS's own: a VPC endpoint, or a stand-in in tests.
    url: str | None = None
    #: boto3's name of it: ``ecr`` or ``ecr-public``.
    service: Literal["ecr", "ecr-public"] = "ecr"


class Clients:
    """The client of one component, made when it is first used and kept while nothing changed."""

    def __init__(self, component: str) -> None:
        self._component = component
        self._lock = threading.Lock()
        self._made: tuple[Identity, Endpoint] | None = None
        self._ends: datetime | None = None
        self._client: Any = None

    def ecr(self, identity: Identity, endpoint: Endpoint) -> Any:
        """The ECR client; safe to use from several threads.

        Raises:
            PushError: no boto3, no such profile, or a role that cannot be assumed.
        """
        # boto3's sessions, unlike its clients, are not safe to share between threads.
        with self._lock:
            stale = self._ends is not None and datetime.now(UTC) > self._ends - ROLE_MARGIN
            if self._made != (identity, endpoint) or stale:
                self._client = self._make(identity, endpoint)
                self._made = (identity, endpoint)
            return self._client

    def _make(self, identity: Identity, endpoint: Endpoint) -> Any:
        with needed("boto3", flavor="aws", extra="worker"):
            import boto3
            from botocore.config import Config
        config = Config(
            connect_timeout=5,
            read_timeout=20,
            retries={"mode": "standard", "max_attempts": 4},
            user_agent_extra=f"transship/{__version__}",
            use_fips_endpoint=endpoint.fips,
            use_dualstack_endpoint=endpoint.dual_stack,
        )
        with translated(self._component, "ecr:GetAuthorizationToken", "*"):
            session = boto3.Session(
                aws_access_key_id=identity.access_key_id,
                aws_secret_access_key=identity.secret_access_key,
                aws_session_token=identity.session_token,
                profile_name=identity.profile,
                region_name=endpoint.region,
            )
        self._ends = None
        check_boto3_proxy(endpoint.url or _host_of(f"api.{endpoint.service}", endpoint.region))
        if identity.role_arn is not None:
            check_boto3_proxy(_host_of("sts", endpoint.region))
            session = self._in_role(session, identity.role_arn, config, endpoint.region)
        with translated(self._component, "ecr:GetAuthorizationToken", "*"):
            return session.client(endpoint.service, endpoint_url=endpoint.url, config=config)

    def _in_role(self, session: Any, role_arn: str, config: Any, region: str) -> Any:
        import boto3

        with translated(self._component, "sts:AssumeRole", role_arn):
            answer = session.client("sts", config=config).assume_role(
                RoleArn=role_arn, RoleSessionName=f"transship-{self._component}"[:64]
            )
        role = answer["Credentials"]
        self._ends = role["Expiration"]
        return boto3.Session(
            aws_access_key_id=role["AccessKeyId"],
            aws_secret_access_key=role["SecretAccessKey"],
            aws_session_token=role["SessionToken"],
            region_name=region,
        )


def _host_of(service: str, region: str) -> str:
    """The URL of a service in a region, near enough for ``no_proxy``."""
    end = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{service}.{region}.{end}"
