"""The shipped Redis accounts: what each may do succeeds, and what it may not is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain

import pytest
import redis

from tests.support.ledger.bench import BROKEN
from tests.support.ledger.played_migration import SPEC, row
from tests.support.servers.redis import redis_binary, valkey_binary
from tests.support.servers.redis_accounts import OTHER, TEAMS, GuardedRedis
from transship import Client, JobFailed, Push, State
from transship.cli.diagnosis import diagnose
from transship.errors import NotYours, RedisUnreachable
from transship.ledger.functions import Functions
from transship.ledger.keys import Keys
from transship.model.jobs import JobId
from transship.model.requests import parse_request
from transship_config.settings import Settings
from transship_worker.jobs.claim_results import Answer, ClaimResult
from transship_worker.jobs.claims import Claims
from transship_worker.jobs.sweep import FIXED_QUEUES

pytestmark = pytest.mark.redis

IMAGE = "registry.example.com/ml/train"
JOB = "0" * 20 + "-ci"
#: Those whose rules are the same but for the name.
PRODUCERS = ("producer", OTHER, *TEAMS)
#: Names that a pattern for `team-a` could take for it.
LOOKALIKES = ("a", "team-a-b", "x-team-a", "team-aa", "team_a", "Team-a", "team-b", "default")
#: Redis says it in three ways: for a command, for its keys or channels, within a script.
REFUSED = r"permission|can't (run|access)"

Table = Sequence[Sequence[str | float]]

#: What administers Redis, or shows what is not this namespace's.
ADMIN: Table = (
    ["FLUSHALL"],
    ["FLUSHDB"],
    ["KEYS", "*"],
    ["SCAN", "0"],
    ["RANDOMKEY"],
    ["DBSIZE"],
    ["CONFIG", "GET", "*"],
    ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
    ["MONITOR"],
    ["ACL", "LIST"],
    ["ACL", "SETUSER", "mallory", "on", "nopass", "~*", "+@all"],
    ["ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all"],
    ["ACL", "LOAD"],
    ["DEBUG", "OBJECT", "transship:accounts"],
    ["SCRIPT", "FLUSH"],
    ["SCRIPT", "KILL"],
    ["FUNCTION", "FLUSH"],
    ["FUNCTION", "RESTORE", "x"],
    ["FUNCTION", "KILL"],
    ["SHUTDOWN", "NOSAVE"],
    ["BGREWRITEAOF"],
    ["SAVE"],
    ["REPLICAOF", "127.0.0.1", "1"],
    ["CLIENT", "LIST"],
    ["CLIENT", "KILL", "TYPE", "normal"],
    ["CLIENT", "PAUSE", "1"],
    ["SLOWLOG", "GET"],
    ["MODULE", "LIST"],
    ["SWAPDB", "0", "1"],
    ["MIGRATE", "127.0.0.1", "1", "transship:accounts", "0", "1"],
    ["RESTORE", "transship:from:producer:x", "0", "x"],
    ["SORT", "transship:accounts"],
    ["GET", "other:secret"],
    ["SET", "other:secret", "x"],
    ["EVAL", "return redis.call('GET', 'other:secret')", 0],
    ["EVAL", "return redis.call('FLUSHALL')", 0],
    ["SUBSCRIBE", "other"],
    ["PUBLISH", "other", "x"],
    ["PSUBSCRIBE", "*"],
    ["SUBSCRIBE", "__keyspace@0__:x"],
)

#: What workers load for producers.
LOADING: Table = (
    ["FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('x', function() return 1 end)"],
    ["FUNCTION", "LOAD", "REPLACE", "#!lua name=x\nwhile true do end"],
    ["FUNCTION", "DELETE", "x"],
    ["FUNCTION", "LIST"],
)
#: What only producers call.
CALLING: Table = (["FCALL", "x", 0], ["FCALL_RO", "x", 0])
#: Scripts of one's own: one without an end would stop Redis.
SCRIPTS: Table = (
    ["EVAL", "while true do end", 0],
    ["EVAL_RO", "while true do end", 0],
    ["EVALSHA", "0" * 40, 0],
    ["EVALSHA_RO", "0" * 40, 0],
    ["SCRIPT", "LOAD", "while true do end"],
    ["SCRIPT", "EXISTS", "0" * 40],
)

#: What is written by workers and by other accounts.
FOREIGN: Table = (
    ["HSET", f"transship:job:{JOB}", "state", "succeeded"],
    ["SET", f"transship:job:{JOB}", "x"],
    ["DEL", f"transship:job:{JOB}"],
    ["EXPIRE", f"transship:job:{JOB}", "1"],
    ["EVAL", f"return redis.call('HSET', 'transship:job:{JOB}', 'state', 'x')", 0],
    ["EVAL", "return redis.call('DEL', KEYS[1])", 1, f"transship:job:{JOB}"],
    ["XADD", f"transship:events:{JOB}", "*", "state", "succeeded"],
    ["DEL", f"transship:events:{JOB}"],
    ["ZADD", "transship:of:ci:state:succeeded", 1, JOB],
    ["ZADD", "transship:of:producer:state:succeeded", 1, JOB],
    ["ZREM", "transship:of:producer:migrations", JOB],
    ["SET", "transship:rights:producer:x", "{}"],
    ["SET", "transship:admission", "{}"],
    ["ZADD", "transship:leases", 1, JOB],
    ["ZREM", "transship:leases", JOB],
    ["ZADD", "transship:due:push.*", 1, JOB],
    ["ZADD", "transship:retention", 1, JOB],
    ["SADD", "transship:queues", "x"],
    ["SREM", "transship:accounts", "ci"],
    ["DEL", "transship:accounts"],
    ["EXPIRE", "transship:accounts", "1"],
    ["HSET", f"transship:migration:{JOB}", "complete", "1"],
    ["ZADD", f"transship:migration:{JOB}:jobs", 1, JOB],
    ["RPUSH", f"transship:migration:{JOB}:pending", JOB],
    ["ZADD", "transship:of:ci:migrations", 1, JOB],
    # Workers' views say which components there are, and where they lead.
    ["SET", "transship:worker:transship@evil.1", "{}"],
    ["ZADD", "transship:workers", 9e15, "transship@evil.1"],
    ["DEL", "transship:worker:transship@build.1"],
    ["SET", "transship:reaper", "evil"],
    ["HSET", "transship:refused", "x", "1"],
    ["ZADD", "transship:functions", 1, "transship_0123456789abcdef"],
    ["SET", "transship:pause:registry.example.com:x", "evil"],
    ["HSET", "transship:rate:registry.example.com:x", "x", "1"],
    ["ZADD", "transship:permits:registry.example.com:x", 1, "x"],
    ["ZADD", "transship:blob:registry.example.com:sha256:x", 1, "x"],
    ["SET", "transship:lead:registry.example.com:sha256:x", "x"],
    ["SET", "transship:lock:x", "x"],
    ["SET", "transship:subset:x:y", "sha256:x"],
    # Another account's requests and wishes.
    ["SET", f"transship:from:ci:request:{JOB}", "{}"],
    ["DEL", f"transship:from:ci:request:{JOB}"],
    ["SET", f"transship:from:ci:cancel:{JOB}", "1"],
    ["SET", f"transship:from:ci:retry:{JOB}", "1"],
    ["ZREM", "transship:from:ci:queued", JOB],
    ["ZADD", f"transship:from:ci:target:{IMAGE}:1", 1, JOB],
    ["ZADD", "transship:from:ci:due:push.*", 1, JOB],
    ["RPUSH", f"transship:from:ci:rows:{JOB}", "{}"],
    ["LPOP", f"transship:from:ci:plan:{JOB}"],
    ["BLPOP", f"transship:from:ci:plan:{JOB}", 1],
    ["EVAL", f"return redis.call('DEL', 'transship:from:ci:request:{JOB}')", 0],
)

#: Celery's queues and messages: reading, emptying, replacing.
QUEUES: Table = (
    ["LRANGE", "transship:celery:push.*", 0, -1],
    ["LINDEX", "transship:celery:push.*", 0],
    ["GET", "transship:celery:push.*"],
    ["RPOP", "transship:celery:push.*"],
    ["LPOP", "transship:celery:push.*"],
    ["BRPOP", "transship:celery:push.*", 1],
    ["BLPOP", "transship:celery:copy.bulk", 1],
    ["LPOP", "transship:celery:plan.*"],
    ["DEL", "transship:celery:push.*"],
    ["SET", "transship:celery:push.*", "x"],
    ["RPUSH", "transship:celery:push.*", "x"],
    ["LTRIM", "transship:celery:push.*", 1, 0],
    ["LMOVE", "transship:celery:push.*", "transship:from:producer:x", "LEFT", "LEFT"],
    ["RENAME", "transship:celery:push.*", "transship:from:producer:x"],
    ["COPY", "transship:celery:push.*", "transship:from:producer:x"],
    ["EXPIRE", "transship:celery:push.*", 1],
    ["EVAL", "return redis.call('LPOP', 'transship:celery:push.*')", 0],
    ["HGETALL", "transship:celery:unacked"],
    ["HSET", "transship:celery:unacked", "x", "x"],
    ["ZADD", "transship:celery:unacked_index", 1, "x"],
    ["PUBLISH", "transship:celery:/0.celeryev/worker.offline", "{}"],
)

#: Who else has an account: for workers and monitors.
NAMES: Table = (["ACL", "USERS"],)

#: What only a producer of that prefix writes.
OWN: Table = (
    ["SET", "transship:from:producer:request:x", "{}"],
    ["ZADD", "transship:from:producer:queued", 1, "x"],
    ["SADD", "transship:accounts", "x"],
    ["LPUSH", "transship:celery:push.*", "x"],
    ["LPUSH", "transship:celery:copy.bulk", "x"],
)


@pytest.fixture(scope="module", params=["installed", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[GuardedRedis]:
    """The installed server, and a Valkey: it speaks of accounts as Redis 7.2 and newer do."""
    binary = redis_binary() if request.param == "installed" else valkey_binary()
    # Debugging is on, so that it is the account that does not let it happen.
    with GuardedRedis(binary=binary, arguments=["--enable-debug-command", "yes"]) as server:
        # What a worker does when it starts.
        with closing(server.as_account("worker")) as worker:
            Functions(worker, Keys("transship")).load()
        yield server


def client_of(server: GuardedRedis, account: str) -> Client:
    settings = Settings.from_environment({"TRANSSHIP_URL": server.url_of(account)})
    return Client(settings=settings)


def accepted(server: GuardedRedis, account: str, *tables: Table) -> list[str]:
    """Which of the commands are not refused; all of them must leave the data as it was."""
    wrong = []
    with closing(server.client()) as admin, closing(server.as_account(account)) as client:
        before = _data(admin)
        for command in chain(*tables):
            try:
                answer: object = client.execute_command(*command)  # type: ignore[no-untyped-call]
            except redis.ResponseError as error:
                if re.search(REFUSED, str(error)):
                    continue
                answer = error
            wrong.append(f"{' '.join(map(str, command))}: {answer!r}")
        assert _data(admin) == before
    return wrong


def _data(admin: redis.Redis) -> dict[str, object]:
    return {str(key): admin.dump(key) for key in admin.scan_iter()}


def test_nobody_comes_in_without_a_name_and_a_password(server: GuardedRedis) -> None:
    for url in (
        f"redis://127.0.0.1:{server.port}/0",
        f"redis://default:x@127.0.0.1:{server.port}/0",
        f"redis://producer:x@127.0.0.1:{server.port}/0",
    ):
        with (
            closing(redis.Redis.from_url(url)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


@pytest.mark.parametrize("account", PRODUCERS)
def test_a_producer_does_all_its_work(server: GuardedRedis, account: str) -> None:
    with server.refusing_nothing(), client_of(server, account) as client:
        assert not client.reads_all
        job = client.push(f"{IMAGE}:1", registry="prod")
        many = client.push_many(Push(f"{IMAGE}:{n}", registry="prod", bulk=True) for n in range(9))
        copy = client.copy(f"{IMAGE}:1", f"{IMAGE}:2", source_registry="a", target_registry="b")

        assert job.id.endswith(f"-{account}")
        mine = {one.id for one in client.jobs(limit=50)}
        assert {job.id, copy.id, *(one.id for one in many)} == mine
        assert job.cancel().state is State.CANCELLED
        assert job.retry().state is State.QUEUED
        assert copy.cancel().state is State.CANCELLED
        with pytest.raises(JobFailed):
            copy.wait(5)
        assert client.fleet().workers == []


def test_a_producer_plans_and_runs_migrations(server: GuardedRedis) -> None:
    with server.refusing_nothing(), client_of(server, "producer") as client:
        plan = client.plan(SPEC)
        # The test is the worker that plans it.
        with closing(server.as_account("worker")) as worker:
            worker.rpush(f"transship:from:producer:plan:{plan.id}", row(plan.id, 1).to_json())
        rows = plan.rows()
        taken = [next(rows)]
        rows.close()
        assert plan.record().state is State.CANCELLED
        run = client.migrate(taken)
        assert run.id.endswith("-producer")
        assert [one.id for one in client.migrations()] == [run.id, plan.id]
        assert run.report().images == ()
        assert run.cancel().state is State.CANCELLED
        assert run.retry().state is State.QUEUED


def test_a_producer_sees_no_job_of_another_account(server: GuardedRedis) -> None:
    with client_of(server, "team-a") as theirs, client_of(server, "team-b") as mine:
        job = theirs.push(f"{IMAGE}:theirs", registry="prod")
        plan = theirs.plan(SPEC)
        own = mine.push(f"{IMAGE}:mine", registry="prod")

        for read in (mine.job, mine.find, mine.migration):
            for hidden in (job.id, plan.id):
                with pytest.raises(NotYours, match="account 'team-b' may not read it"):
                    read(hidden)
        assert {one.submitted_by for one in mine.jobs(limit=100)} == {"team-b"}
        assert own.id in {one.id for one in mine.jobs(limit=100)}
        assert mine.migrations() == []
        assert {one.submitted_by for one in theirs.jobs(limit=100)} == {"team-a"}
        assert [one.id for one in theirs.migrations()] == [plan.id]
        # A plan of another account may be run; only what it was called is not known.
        run = mine.migrate([row(plan.id, 1)])
        assert run.record().submitted_by == "team-b"
        job.cancel()


def test_an_account_that_cannot_see_the_targets_of_others_submits_anew(
    server: GuardedRedis,
) -> None:
    """Another account may have submitted later for it, and the newest submit ends last."""
    with client_of(server, "team-c") as alone, closing(server.client()) as admin:
        others = admin.smembers("transship:accounts") - {"team-c"}
        known = admin.smembers("transship:accounts:known") - {"team-c"}
        for key, names in (("transship:accounts", others), ("transship:accounts:known", known)):
            if names:
                admin.srem(key, *names)
        job = alone.push(f"{IMAGE}:same", registry="prod")
        assert alone.push(f"{IMAGE}:same", registry="prod").id == job.id

        with client_of(server, "team-b") as another:
            another.push(f"{IMAGE}:unrelated", registry="prod")
        anew = alone.push(f"{IMAGE}:same", registry="prod")

    assert anew.id != job.id
    assert not anew.deduplicated


def test_a_producer_is_refused_all_else(server: GuardedRedis) -> None:
    assert accepted(server, "producer", ADMIN, FOREIGN, QUEUES, LOADING, SCRIPTS, NAMES) == []


def a_job(account: str) -> JobId:
    return JobId("0" * 20 if account == "default" else "0" * 20 + f"-{account}")


def reads_index(key: str) -> list[str | float]:
    return ["ZRANGE", key, 0, -1]


def reads_of(account: str) -> Table:
    """What an account reads of its own jobs."""
    keys, job = Keys("transship"), a_job(account)
    request, record = keys.request(job), keys.job(job)
    return [
        ["GET", request],
        ["GETRANGE", request, 0, 9],
        ["EXISTS", request],
        ["MGET", request],
        ["HGETALL", record],
        ["HGET", record, "state"],
        ["EXISTS", record],
        ["XREAD", "STREAMS", keys.events(job), "0"],
        ["GET", keys.cancel(job)],
        ["GET", keys.retry(job)],
        ["ZSCORE", keys.queued(account), job],
        ["ZCARD", keys.queued(account)],
        ["ZCARD", keys.state(account, State.RUNNING)],
        ["ZRANGE", keys.withdrawn(account), 0, -1],
        ["HGETALL", keys.refused_of(account)],
        ["ZRANGE", keys.due(account, "push.*"), 0, -1],
        ["ZREVRANGE", f"{keys.account(account)}target:{IMAGE}:1", 0, 0],
        *(reads_index(keys.state(account, state)) for state in State),
        reads_index(keys.migrations(account)),
        ["HGETALL", keys.migration(job)],
        ["ZRANGE", keys.migration_jobs(job), 0, -1],
        ["EXISTS", keys.pending(job)],
        ["GET", f"transship:rights:{account}:x"],
    ]


def foreign_reads(own: str, account: str) -> Table:
    """All that Redis holds of the jobs of another account, also beside what is one's own."""
    keys, mine, theirs = Keys("transship"), a_job(own), a_job(account)
    return (
        *reads_of(account),
        ["MGET", keys.request(mine), keys.request(theirs)],
        ["EXISTS", keys.job(mine), keys.job(theirs)],
        ["XREAD", "STREAMS", keys.events(mine), keys.events(theirs), "0", "0"],
        ["GET", keys.reading(theirs)],
        ["LRANGE", keys.rows(theirs), 0, -1],
        ["LPOP", keys.plan(theirs)],
        ["SMEMBERS", f"{keys.of(account)}x"],
    )


#: What is told of the jobs of all accounts together, and what workers know of images.
SHARED_READS: Table = (
    ["EXISTS", "transship:of:*"],
    ["ZRANGE", "transship:state:succeeded", 0, -1],
    ["ZRANGE", "transship:migrations", 0, -1],
    ["ZRANGE", "transship:leases", 0, -1],
    ["ZRANGE", "transship:retention", 0, -1],
    ["ZRANGE", "transship:expiry", 0, -1],
    ["ZRANGE", "transship:due:push.*", 0, -1],
    ["ZRANGE", "transship:functions", 0, -1],
    ["HGETALL", "transship:refused"],
    ["GET", "transship:reaper"],
    ["SMEMBERS", "transship:blob:registry.example.com:sha256:x"],
    ["ZRANGE", "transship:blob:registry.example.com:sha256:x", 0, -1],
    ["GET", "transship:lead:registry.example.com:sha256:x"],
    ["ZRANGE", "transship:line:registry.example.com:sha256:x", 0, -1],
    ["GET", "transship:copy:x"],
    ["GET", "transship:layer:registry.example.com:sha256:x"],
    ["GET", "transship:pushed:registry.example.com/ml/train:sha256:x"],
    ["GET", "transship:subset:x:y"],
    ["GET", "transship:mounts:registry.example.com"],
    ["GET", "transship:pause:registry.example.com:x"],
    ["HGETALL", "transship:rate:registry.example.com:x"],
    ["ZRANGE", "transship:permits:registry.example.com:x", 0, -1],
)


@pytest.mark.parametrize("other", LOOKALIKES)
def test_a_team_reads_nothing_of_another_account(server: GuardedRedis, other: str) -> None:
    assert accepted(server, "team-a", foreign_reads("team-a", other)) == []


@pytest.mark.parametrize("account", PRODUCERS)
def test_a_producer_reads_what_is_its_own_and_nothing_of_all(
    server: GuardedRedis, account: str
) -> None:
    others = [foreign_reads(account, name) for name in PRODUCERS if name != account]
    assert accepted(server, account, *others, SHARED_READS) == []
    with closing(server.as_account(account)) as client, server.refusing_nothing():
        for command in reads_of(account):
            client.execute_command(*command)  # type: ignore[no-untyped-call]


def test_a_monitor_sees_everything(server: GuardedRedis) -> None:
    jobs, plans = {}, set()
    for account in PRODUCERS:
        with client_of(server, account) as producer:
            jobs[account] = producer.push(f"{IMAGE}:seen", registry="prod").id
            plans.add(producer.plan(SPEC).id)
    with server.refusing_nothing(), client_of(server, "monitor") as client:
        assert client.reads_all
        for job in jobs.values():
            assert client.job(job).record().image == f"{IMAGE}:seen"
        assert set(jobs.values()) <= {one.id for one in client.jobs(limit=200)}
        assert client.fleet().workers == []
        assert plans <= {one.id for one in client.migrations()}
        assert client.refused() == {}
        assert [(one.check, one.code) for one in diagnose(client)] == [
            ("redis", "ok"),
            ("workers", "no_worker"),
        ]
    with (
        client_of(server, "monitor") as client,
        pytest.raises(RedisUnreachable, match="does not let this account do that"),
    ):
        client.push(f"{IMAGE}:mine", registry="prod")


def test_a_monitor_is_refused_all_else(server: GuardedRedis) -> None:
    assert accepted(server, "monitor", ADMIN, FOREIGN, QUEUES, OWN, LOADING, CALLING) == []


def test_a_worker_keeps_the_ledger(server: GuardedRedis) -> None:
    """All that it does there, also with what producers wrote that is no job."""
    settings = Settings.from_environment({})
    with (
        client_of(server, "producer") as client,
        closing(server.as_account("worker")) as worker,
        closing(server.as_account("producer")) as producer,
        server.refusing_nothing(),
    ):
        ids = [client.push(f"{IMAGE}:kept", registry="prod", source=f"{n}").id for n in range(5)]
        for name in ("queued", "withdrawn", "expiry", "due:push.*", f"target:{IMAGE}:kept"):
            producer.zadd(f"transship:from:producer:{name}", {JobId.new("producer"): 1, "x": 1})
        producer.sadd("transship:accounts", "nobody")
        claims = Claims(worker, Keys("transship"), settings, "transship@build.1")
        requests = [parse_request(claims.read(JobId(job)).text) for job in ids]

        def claim(place: int) -> ClaimResult:
            return claims.claim(JobId(ids[place]), requests[place], engine="e", flavor="default")

        claims.defer(JobId(ids[4]), requests[4])
        claims.leave(JobId(ids[4]))
        assert claims.reject(JobId(ids[4]), BROKEN)
        held = claim(0).claim
        assert held is not None
        assert claims.report(held, step="pushing") == (True, False)
        assert claim(1).answer is Answer.BEHIND
        claims.cancelled(held)
        held = claim(1).claim
        assert held is not None
        claims.release(held, "stops")
        # Each searches another queue.
        for _ in FIXED_QUEUES:
            claims.sweep()
        counted = worker.hgetall("transship:refused")
        wanted = {"queued_entry", "withdrawn_entry", "expiry_entry", "due_entry", "target_entry"}
        assert {*wanted, "account_name"} <= counted.keys()
        worker.delete("transship:refused")


def test_a_worker_does_not_administer_redis(server: GuardedRedis) -> None:
    assert accepted(server, "worker", ADMIN, CALLING) == []
