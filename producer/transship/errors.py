"""All errors: their codes, exit statuses, and whether a retry can help.

Whether an error may be retried, and the exit status it gives a command, are properties of
the error, decided here once. An error that is not in this tree is never retried.

::

    TransshipError
    ├── UsageError                    exit 2: bad input; the message says what would be right
    │   ├── InvalidReference (ValueError)
    │   ├── InvalidSettings
    │   ├── UnknownComponent
    │   ├── UnknownEngine
    │   ├── UnknownJob
    │   ├── NotYours
    │   ├── InvalidPattern (ValueError)
    │   ├── RightMissing              not_allowed
    │   └── CatalogError
    ├── RedisUnreachable              exit 3
    │   ├── RedisIsReplica            exit 2
    │   ├── FunctionsMissing
    │   └── NotReplicated
    ├── WaitTimeout                   exit 4: the job goes on
    ├── JobFailed                     exit 1: a waited job ended as failed or cancelled
    └── PushError                     why an attempt at a push ended; kept with the job
        ├── ImageNotFound             image_not_found
        │   └── PlatformMissing       platform_missing
        ├── NotUnderRegistry          not_under_registry (also a ValueError)
        ├── NotAllowed                not_allowed
        ├── CannotList                cannot_list
        ├── PrepareFailed             prepare_failed
        ├── CredentialsMissing        credentials_missing
        ├── Denied                    denied
        ├── RepositoryMissing         repository_missing
        ├── ImmutableTag              immutable_tag
        ├── InvalidRequest            invalid_request
        ├── EngineMisconfigured       engine_misconfigured
        ├── DigestMismatch            digest_mismatch
        ├── PushRejected              push_rejected
        │   ├── BodyTooLarge          body_too_large
        │   ├── DigestInvalid         digest_invalid
        │   ├── ForeignLayersRefused  foreign_layers_refused
        │   ├── ManifestInvalid       manifest_invalid
        │   ├── MediaTypeUnsupported  media_type_unsupported
        │   ├── QuotaExceeded         quota_exceeded
        │   └── RegistryReadOnly      registry_read_only
        ├── RegistryUntrusted         registry_untrusted
        ├── AnswerMalformed           answer_malformed
        ├── ManifestUnsupported       manifest_unsupported
        ├── BlobMissing               blob_missing
        ├── UploadLost                upload_lost             retryable
        ├── RateLimited               rate_limited            retryable
        ├── PlanFailed                plan_failed
        ├── RegistryPaused            registry_paused         retryable
        ├── RegistryUnreachable       registry_unreachable    retryable
        ├── RegistryUnavailable       registry_unavailable    retryable
        ├── CloudUnavailable          cloud_unavailable       retryable
        ├── Stalled                   stalled                 retryable
        ├── EngineUnavailable         engine_unavailable      retryable
        ├── DeadlineExceeded          deadline_exceeded
        ├── LeaseLost                 lease_lost
        ├── HandedBack                handed_back
        └── PushCancelled             cancelled

``SubmitInterrupted`` is a ``KeyboardInterrupt``, and so outside of the tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transship_config.errors import TransshipError, UsageError


class InvalidReference(UsageError, ValueError):
    """A text that is not an image reference or a registry URI."""

    code = "invalid_reference"


class UnknownComponent(UsageError):
    """No live worker publishes a registry component of this name."""

    code = "unknown_component"


class UnknownEngine(UsageError):
    """No live worker pushes from a Docker Engine of this name, or several do and none is chosen."""

    code = "unknown_engine"


class UnknownJob(UsageError):
    """No job has this id (any more)."""

    code = "unknown_job"


class NotYours(UsageError):
    """A job of another Redis account: it cannot be cancelled or retried, nor perhaps be read."""

    code = "not_yours"


class InvalidPattern(UsageError, ValueError):
    """A text that is not a pattern of an account's rights."""

    code = "invalid_pattern"


class RightMissing(UsageError):
    """The account may not ask for this, as workers publish; nothing was enqueued."""

    code = "not_allowed"


class CatalogError(UsageError):
    """A catalogue that cannot be used; one line a mistake, each with its place."""

    code = "catalog"


class RedisUnreachable(TransshipError):
    """Redis did not answer, or refused this account."""

    code = "redis_unreachable"
    retryable = True
    exit_status = 3


class RedisIsReplica(RedisUnreachable):
    """The address in ``TRANSSHIP_URL`` is that of a replica, and was so from the first connection.

    Of an address that led to a primary before, ``RedisUnreachable`` is raised: it may again.
    """

    code = "redis_is_replica"
    retryable = False
    exit_status = 2


class FunctionsMissing(RedisUnreachable):
    """Nobody has loaded the functions of this version into Redis, and this account may not."""

    code = "functions_missing"


class NotReplicated(RedisUnreachable):
    """Fewer replicas than ``TRANSSHIP_WAIT_REPLICAS`` acknowledged a submit in time.

    The jobs are written, and may run; a failover may still forget them. ``Client.submit_again``
    writes the same jobs, where they are lost, and waits again.
    """

    code = "not_replicated"
    #: The jobs by their ids, with what is to be written again.
    requests: Mapping[str, Any]

    @classmethod
    def of(cls, requests: Mapping[Any, Any], replicas: int, seconds: float) -> NotReplicated:
        """The error for these jobs."""
        first = next(iter(requests))
        others = f" and {len(requests) - 1} more" if len(requests) > 1 else ""
        error = cls(
            f"job {first}{others}: written, but fewer than {replicas} replica(s) acknowledged it "
            f"within {seconds:g} s; it may run, and a failover may lose it"
        )
        error.requests = dict(requests)
        return error

    @property
    def jobs(self) -> tuple[str, ...]:
        """The ids of the jobs."""
        return tuple(self.requests)


class WaitTimeout(TransshipError, TimeoutError):
    """A wait ended before the job did; the job goes on."""

    code = "wait_timeout"
    exit_status = 4


class JobFailed(TransshipError):
    """A job that ended as ``failed`` or ``cancelled``."""

    code = "job_failed"


class PushError(TransshipError):
    """Why one attempt at a push ended. Its code, message and retryability stay with the job.

    ``retry_after_s`` is the registry's own wish for when to come back, in seconds, where it
    stated one.
    """

    code = "push_failed"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keyword kept, as Celery and process pools need."""
        return (_rebuild, (type(self), self.message, self.retry_after_s))


def _rebuild(kind: type[PushError], message: str, retry_after_s: float | None) -> PushError:
    return kind(message, retry_after_s=retry_after_s)


class ImageNotFound(PushError):
    """The image is not in the worker's Docker Engine, or not in the registry it is read from."""

    code = "image_not_found"


class PlatformMissing(ImageNotFound):
    """The image is there, and not for a platform that was asked for."""

    code = "platform_missing"


class NotUnderRegistry(PushError, ValueError):
    """The image does not lie under the component's URI."""

    code = "not_under_registry"


class NotAllowed(PushError):
    """The account may not do this, the component's ``allow`` does not have this use, or a host may
    not be read.
    """

    code = "not_allowed"


class CannotList(PushError):
    """A registry's repositories cannot be listed, so that they must be named."""

    code = "cannot_list"


class PrepareFailed(PushError):
    """``prepare_image_push`` refused the image or could not prepare the registry for it."""

    code = "prepare_failed"


class CredentialsMissing(PushError):
    """The component's credentials cannot be had: an unset variable, an absent file, no login."""

    code = "credentials_missing"


class Denied(PushError):
    """The registry refused the credentials, or their rights."""

    code = "denied"


class RepositoryMissing(PushError):
    """The repository (or project) does not exist and was not to be created."""

    code = "repository_missing"


class ImmutableTag(PushError):
    """The tag exists with another digest, and the registry does not let it move."""

    code = "immutable_tag"


class InvalidRequest(PushError):
    """A request in the ledger that does not parse: written by hand, or by another version."""

    code = "invalid_request"


class EngineMisconfigured(PushError):
    """The Docker Engine lacks a setting that this registry needs (insecure registry, CA).

    Of a push without a job also: no usable engine is named, or the Docker SDK is not installed.
    """

    code = "engine_misconfigured"


class DigestMismatch(PushError):
    """What was pushed or read is not the content that was named."""

    code = "digest_mismatch"


class PushRejected(PushError):
    """The registry or the engine refused the push for a reason that has no code of its own."""

    code = "push_rejected"


class BodyTooLarge(PushRejected):
    """The registry, or a proxy before it, takes no request of this size (413)."""

    code = "body_too_large"


class DigestInvalid(PushRejected):
    """The registry refuses a digest that was verified here, such as one of sha512."""

    code = "digest_invalid"


class ForeignLayersRefused(PushRejected):
    """The registry takes no manifest that names nondistributable (foreign) layers."""

    code = "foreign_layers_refused"


class ManifestInvalid(PushRejected):
    """The registry calls the manifest invalid."""

    code = "manifest_invalid"


class MediaTypeUnsupported(PushRejected):
    """The registry does not know this kind of manifest, or what it consists of."""

    code = "media_type_unsupported"


class QuotaExceeded(PushRejected):
    """The registry has no room: a quota is used up, or its storage is."""

    code = "quota_exceeded"


class RegistryReadOnly(PushRejected):
    """The registry takes no writes: it is read-only, or a pull-through proxy."""

    code = "registry_read_only"


class RegistryUntrusted(PushError):
    """A registry's certificate does not verify, or it points to where nothing may be sent."""

    code = "registry_untrusted"


class AnswerMalformed(PushError):
    """A registry's answer breaks the protocol: too large, no JSON, a loop, a bad header."""

    code = "answer_malformed"


class ManifestUnsupported(PushError):
    """A manifest of a kind that cannot be copied, such as schema 1."""

    code = "manifest_unsupported"


class BlobMissing(PushError):
    """A registry does not have a blob that a request or a manifest names."""

    code = "blob_missing"


class UploadLost(PushError):
    """A registry has forgotten an upload, or its offset is another; the blob starts again."""

    code = "upload_lost"
    retryable = True


class RateLimited(PushError):
    """The registry answered 429."""

    code = "rate_limited"
    retryable = True


class PlanFailed(PushError):
    """A migration, or a part of it, that cannot be planned."""

    code = "plan_failed"


class RegistryPaused(PushError):
    """The registry asked the fleet to wait; no attempt is spent until it may be asked again."""

    code = "registry_paused"
    retryable = True


class RegistryUnreachable(PushError):
    """No connection to the registry: name, route, port, TLS."""

    code = "registry_unreachable"
    retryable = True


class RegistryUnavailable(PushError):
    """The registry answered with a server error, or broke off."""

    code = "registry_unavailable"
    retryable = True


class CloudUnavailable(PushError):
    """A cloud's control plane (login, repository creation) throttled or failed."""

    code = "cloud_unavailable"
    retryable = True


class Stalled(PushError):
    """No progress for longer than the stall limit."""

    code = "stalled"
    retryable = True


class EngineUnavailable(PushError):
    """The Docker Engine cannot be reached, or went away during the push."""

    code = "engine_unavailable"
    retryable = True


class DeadlineExceeded(PushError):
    """The job ran longer than its deadline."""

    code = "deadline_exceeded"


class LeaseLost(PushError):
    """The job is no longer this worker's: its lease ended, or another claimed it."""

    code = "lease_lost"


class HandedBack(PushError):
    """The worker stops, and gives the job back to the queue; no attempt is counted."""

    code = "handed_back"


class PushCancelled(PushError):
    """The push was given up because somebody asked for it."""

    code = "cancelled"


class SubmitInterrupted(KeyboardInterrupt):
    """Ctrl-C while jobs were submitted. What was begun is settled before it is raised."""

    def __init__(self, job_ids: Sequence[str], uncertain: Sequence[str] = ()) -> None:
        super().__init__(f"interrupted; {len(job_ids)} job(s) were submitted")
        #: Jobs that were written, in the order of their requests; workers were notified of them.
        self.job_ids = tuple(job_ids)
        #: Those that Redis may have written: it did not answer. Most often none.
        self.uncertain = tuple(uncertain)
