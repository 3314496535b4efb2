"""Every Redis key of Transship: name, type, lifetime and who writes it.

Keys are split by writer, so that Redis accounts can hold the line: what lies under
``from:ACCOUNT:`` is written by that producer account (and tidied by workers); all else is
written by workers. ``accounts`` is the one shared exception: a producer adds its own name there,
and workers keep those that have jobs in ``accounts:known``.

A narrow account reads its own jobs only, and patterns of keys hold that: what tells of the jobs of
one account has its name in the key. An id ends with it, and indexes lie under ``of:ACCOUNT:``.

=============================== ====== ========= ==========================================
key (after the namespace)        type   writer    meaning and lifetime
=============================== ====== ========= ==========================================
``from:A:request:ID``            string producer  the request (JSON), until retention ends
``from:A:queued``                zset   producer  jobs never claimed → submitted (ms)
``from:A:withdrawn``             zset   producer  jobs cancelled before a claim → submitted (ms)
``from:A:expiry``                zset   producer  jobs never claimed → when they expire (ms)
``from:A:due:QUEUE``             zset   producer  jobs never claimed → when to ring again (ms)
``from:A:target:REFERENCE``      zset   producer  jobs not final for one target → order (µs)
``from:A:same:FINGERPRINT``      string producer  an equal job never claimed; expires with it
``from:A:route:ID``              string producer  queue and target of a job never claimed
``from:A:cancel:ID``             string producer  asked to cancel, at (ms); until final
``from:A:retry:ID``              string producer  asked to retry, at (ms); until claimed
``from:A:rows:ID``               list   producer  rows of a plan that is to be run; expires
``from:A:plan:ID``               list   worker    planned rows for the producer, who takes them out
``accounts``                     set    producer  names that producers added of themselves
``accounts:known``               set    worker    accounts of whose jobs a worker heard
``job:ID``                       hash   worker    the record, from the first claim on
``events:ID``                    stream worker    the last changes of one job
``of:A:state:STATE``             zset   worker    jobs with a record by state → submitted (ms)
``of:A:migrations``              zset   worker    migrations that a worker began → submitted (ms)
``leases``                       zset   worker    running jobs → end of the lease (ms)
``due:QUEUE``                    zset   worker    jobs with a record that wait → next ring (ms)
``expiry``                       zset   worker    jobs with a record that wait → when they expire
``listening``                    zset   worker    queues of live workers → when that ends (ms)
``reading:ID``                   string worker    there while a worker reads the request; expires
``retention``                    zset   worker    final jobs → when all of it is deleted (ms)
``migration:ID``                 hash   worker    a migration's totals; until retention ends
``migration:ID:jobs``            zset   worker    rows and jobs of a migration → their number
``migration:ID:pending``         list   worker    its jobs that are not on the queue yet
``blob:REGISTRY:DIGEST``         zset   worker    repositories said to hold a blob → since; expires
``copy:NAME``                    string worker    a copy that leads or waits → its number; expires
``lead:SCOPE:DIGEST``            string worker    the copy that uploads a blob just now; expires
``line:SCOPE:DIGEST``            zset   worker    copies that wait for a blob → number; expires
``lock:WHAT``                    string worker    a mount or a list of referrers; expires
``mounts:REGISTRY``              string worker    the registry refuses mounts; expires
``rate:REGISTRY:LOGIN``          hash   worker    how far budgets are drawn, the last pause; expires
``limiter:REGISTRY:LOGIN``       hash   worker    at which rate a registry is asked; expires
``permits:REGISTRY:LOGIN``       zset   worker    transfers that run → when the permit ends (ms)
``permits:REGISTRY:LOGIN:line``  hash   worker    who waits for a permit → since, until; expires
``pause:REGISTRY:LOGIN``         string worker    why nobody asks there, until it expires
``layer:REGISTRY:DIFF_ID``       string worker    the blob that a layer became there; expires
``pushed:REPOSITORY:IMAGE_ID``   string worker    the manifest that an image became; expires
``subset:DIGEST:PLATFORMS``      string worker    the filtered index of a platform subset; expires
``rights:A:VERSION``             string worker    what an account may do (JSON); expires
``rights:VERSION``               string worker    names of all accounts of the section; expires
``workers``                      zset   worker    live workers → when the view expires (ms)
``worker:NAME``                  string worker    a worker's public view; expires
``reaper``                       string worker    the reaper's leader; expires
``functions``                    zset   worker    libraries of functions → last announced (ms)
``of:A:refused``                 hash   worker    jobs of an account refused, counted by code
``refused``                      hash   worker    doorbells refused, counted by reason
``celery:*``                     mixed  Celery    queues, bindings, events (kombu's own)
=============================== ====== ========= ==========================================

SCOPE is REGISTRY, or REGISTRY/REPOSITORY where mounts are refused. In ``blob:``, ``lead:``,
``line:``, ``layer:`` and ``pushed:``, REGISTRY is preceded by ``ACCOUNT.RIGHTS@`` where accounts
have rights, so that each account is served from what it sent or read itself; not where a manifest
is led, which has one writer. Times are Redis's own clock.
The scripts build these names themselves from the namespace, so a
change here is a change there: a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from transship.model.jobs import JobId, State
from transship_config.lanes import celery_prefix


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names within one namespace (``TRANSSHIP_NAMESPACE``)."""

    namespace: str

    @property
    def prefix(self) -> str:
        """What all keys start with."""
        return f"{self.namespace}:"

    @property
    def celery_prefix(self) -> str:
        """What all of Celery's own keys start with."""
        return celery_prefix(self.namespace)

    def account(self, account: str) -> str:
        """Prefix of what one producer account writes."""
        return f"{self.namespace}:from:{account}:"

    def request(self, job: JobId) -> str:
        """The immutable request."""
        return f"{self.account(job.account)}request:{job}"

    def route(self, job: JobId) -> str:
        """The queue and the target reference of a job that was never claimed."""
        return f"{self.account(job.account)}route:{job}"

    def cancel(self, job: JobId) -> str:
        """The wish to cancel."""
        return f"{self.account(job.account)}cancel:{job}"

    def retry(self, job: JobId) -> str:
        """The wish to try a final job again."""
        return f"{self.account(job.account)}retry:{job}"

    def queued(self, account: str) -> str:
        """An account's jobs that were never claimed."""
        return f"{self.account(account)}queued"

    def withdrawn(self, account: str) -> str:
        """An account's jobs that were cancelled before any worker claimed them."""
        return f"{self.account(account)}withdrawn"

    def due(self, account: str, queue: str) -> str:
        """When to ring again for an account's jobs in one queue that were never claimed."""
        return f"{self.account(account)}due:{queue}"

    def job(self, job: str) -> str:
        """The workers' record of a job."""
        return f"{self.namespace}:job:{job}"

    def events(self, job: str) -> str:
        """The stream of a job's changes."""
        return f"{self.namespace}:events:{job}"

    def of(self, account: str) -> str:
        """Prefix of what workers write of one account's jobs."""
        return f"{self.namespace}:of:{account}:"

    @property
    def of_all(self) -> str:
        """A key that nobody writes: only who may read the jobs of all accounts may ask for it."""
        return f"{self.namespace}:of:*"

    def state(self, account: str, state: State) -> str:
        """Index of an account's jobs with a record in one state."""
        return f"{self.of(account)}state:{state}"

    def queue(self, name: str) -> str:
        """The list that Celery keeps a queue's messages in."""
        return f"{self.celery_prefix}{name}"

    def worker(self, name: str) -> str:
        """One worker's public view."""
        return f"{self.namespace}:worker:{name}"

    @property
    def accounts(self) -> str:
        """Names that producers added: of accounts that submitted, and of anything."""
        return f"{self.namespace}:accounts"

    @property
    def known_accounts(self) -> str:
        """Accounts of whose jobs a worker heard."""
        return f"{self.namespace}:accounts:known"

    @property
    def workers(self) -> str:
        """Index of the live workers."""
        return f"{self.namespace}:workers"

    @property
    def leases(self) -> str:
        """Running jobs by the end of their lease."""
        return f"{self.namespace}:leases"

    def waiting(self, queue: str) -> str:
        """Jobs of a queue that have a record and wait for their next ring."""
        return f"{self.namespace}:due:{queue}"

    def reading(self, job: str) -> str:
        """There while a worker reads a job's request, and after its death."""
        return f"{self.namespace}:reading:{job}"

    @property
    def listening(self) -> str:
        """Queues that live workers listen to."""
        return f"{self.namespace}:listening"

    @property
    def expiry(self) -> str:
        """Jobs with a record that wait, by the time they expire."""
        return f"{self.namespace}:expiry"

    @property
    def retention(self) -> str:
        """Final jobs by the time they are deleted."""
        return f"{self.namespace}:retention"

    def rows(self, migration: JobId) -> str:
        """Rows that a producer wrote to have them run."""
        return f"{self.account(migration.account)}rows:{migration}"

    def plan(self, migration: JobId) -> str:
        """Planned rows on their way to the producer."""
        return f"{self.account(migration.account)}plan:{migration}"

    def migrations(self, account: str) -> str:
        """Index of an account's migrations that a worker began."""
        return f"{self.of(account)}migrations"

    def migration(self, migration: str) -> str:
        """A migration's totals."""
        return f"{self.namespace}:migration:{migration}"

    def migration_jobs(self, migration: str) -> str:
        """All rows of a migration that were planned, by their number."""
        return f"{self.namespace}:migration:{migration}:jobs"

    def pending(self, migration: str) -> str:
        """Jobs of a migration that are not on the queue yet."""
        return f"{self.namespace}:migration:{migration}:pending"

    def blob(self, registry: str, digest: str) -> str:
        """Repositories of a registry that are said to hold a blob."""
        return f"{self.namespace}:blob:{registry}:{digest}"

    def copy(self, name: str) -> str:
        """There while a copy that leads or waits for blobs lives."""
        return f"{self.namespace}:copy:{name}"

    def lead(self, scope: str, digest: str) -> str:
        """The copy that uploads a blob just now."""
        return f"{self.namespace}:lead:{scope}:{digest}"

    def line(self, scope: str, digest: str) -> str:
        """The copies that wait for a blob."""
        return f"{self.namespace}:line:{scope}:{digest}"

    def lock(self, what: str) -> str:
        """A lock that is held for one request."""
        return f"{self.namespace}:lock:{what}"

    def mounts(self, registry: str) -> str:
        """There while a registry is known to refuse mounts."""
        return f"{self.namespace}:mounts:{registry}"

    def rate(self, registry: str, login: str) -> str:
        """How far the budgets of requests and bytes are drawn, and how long the last pause was."""
        return f"{self.namespace}:rate:{registry}:{login}"

    def limiter(self, registry: str, login: str) -> str:
        """The rate at which a registry is asked, while it is known to refuse more."""
        return f"{self.namespace}:limiter:{registry}:{login}"

    def permits(self, registry: str, login: str) -> str:
        """Transfers that run at a registry."""
        return f"{self.namespace}:permits:{registry}:{login}"

    def permits_line(self, registry: str, login: str) -> str:
        """Processes that wait for a permit."""
        return f"{self.permits(registry, login)}:line"

    def pause(self, registry: str, login: str) -> str:
        """Why nobody asks a registry just now."""
        return f"{self.namespace}:pause:{registry}:{login}"

    def layer(self, registry: str, diff_id: str) -> str:
        """The blob that a layer became at a registry."""
        return f"{self.namespace}:layer:{registry}:{diff_id}"

    def pushed(self, registry: str, repository: str, image_id: str) -> str:
        """The manifest that an engine's image became in a repository."""
        return f"{self.namespace}:pushed:{registry}/{repository}:{image_id}"

    def subset(self, digest: str, platforms: str) -> str:
        """The digest of an index with only some platforms of another."""
        return f"{self.namespace}:subset:{digest}:{platforms}"

    @property
    def reaper(self) -> str:
        """The reaper's leader lock."""
        return f"{self.namespace}:reaper"

    @property
    def functions(self) -> str:
        """Libraries of Redis Functions by the time a worker last announced them."""
        return f"{self.namespace}:functions"

    @property
    def refused(self) -> str:
        """Counts of doorbells refused."""
        return f"{self.namespace}:refused"

    def rights(self, account: str, version: str) -> str:
        """What an account may do, by a version of the catalog's section."""
        return f"{self.namespace}:rights:{account}:{version}"

    def rights_index(self, version: str) -> str:
        """Names of all accounts of a version of the catalog's section; not for narrow accounts."""
        return f"{self.namespace}:rights:{version}"

    def refused_of(self, account: str) -> str:
        """Counts of an account's jobs that it may not have done, by the error's code."""
        return f"{self.namespace}:of:{account}:refused"
