# SPDX-License-Identifier: Apache-2.0
"""Redis as relays meet it: one server, a master with replicas and Sentinels, or a Cluster.

Each kind has the same face: `servers`, `options()` (what a relay is told of it), `masters()`,
`kill_master()` (SIGKILL; returns when another is the master in its place) and `bring_back()`.
Replicas acknowledge at once (repl-diskless-sync-delay 0), and one at least must be there.
"""
import ports
from redis_server import Redis, wait_until

DOWN_MS = 1000  # silence after which a master is believed to be dead
REPLICATED = {"min-replicas-to-write": 1, "repl-diskless-sync-delay": 0, "protected-mode": "no"}


def info(redis, section="replication"):
    lines = redis.ask("INFO", section).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def online_replicas(redis):
    return sum("state=online" in value for key, value in info(redis).items()
               if key.startswith("slave"))


def end(*servers):
    """Without a word: a master that is asked to end may wait for its replicas."""
    for redis in servers:
        if redis.process is not None and redis.process.poll() is None:
            redis.kill()


class Single:
    """`data`: where it keeps its data, where that is not a folder of the test's."""

    kind = "single"

    def __init__(self, folder, host=None, data=None):
        self.redis = Redis(data or folder / "redis", {"protected-mode": "no"}, host)
        self.servers = [self.redis]

    def options(self):
        return {"server": self.redis.server}

    def masters(self):
        return [self.redis]

    def __enter__(self):
        self.redis.start()
        return self

    def __exit__(self, *_):
        end(self.redis)


class Sentinels:
    """servers[0] is the master first, the others its replicas; sentinels watch.

    `elected`: the number of a replica that Sentinel prefers to those that have more of the data. It
    learns so at the start: what a replica says of itself later it asks for every ten seconds.
    """

    kind = "sentinel"
    NAME = "ringpost"

    def __init__(self, folder, host=None, replicas=2, sentinels=3, options=None, elected=None):
        self.folder = folder
        self.host = host or ports.address()
        self.servers = [
            Redis(folder / f"redis{n}", {**REPLICATED, "replica-announce-ip": self.host,
                                         **(options or {})}, self.host)
            for n in range(1 + replicas)]
        self.sentinels = [Redis(folder / f"sentinel{n}", {}, self.host)
                          for n in range(sentinels)]
        self.wanted = replicas
        if elected is not None:
            self.servers[elected].options["replica-priority"] = 10

    def options(self):
        return {"sentinels": [s.server for s in self.sentinels], "master": self.NAME}

    def start_replica(self, redis, master):
        redis.options["replicaof"] = f"{master.host} {master.port}"
        redis.start()

    def start_sentinel(self, redis):
        quorum = len(self.sentinels) // 2 + 1
        master = self.servers[0]
        redis.sentinel = [
            f"sentinel monitor {self.NAME} {master.host} {master.port} {quorum}",
            f"sentinel down-after-milliseconds {self.NAME} {DOWN_MS}",
            f"sentinel failover-timeout {self.NAME} 5000",
            f"sentinel announce-ip {self.host}"]
        redis.start()

    def knows_all(self, sentinel):
        said, _ = self.say(sentinel)
        return int(said["num-slaves"]) == self.wanted and \
            int(said["num-other-sentinels"]) == len(self.sentinels) - 1

    def __enter__(self):
        master, *replicas = self.servers
        master.start()
        for redis in replicas:
            self.start_replica(redis, master)
        wait_until(lambda: online_replicas(master) == self.wanted, master, "replicas online")
        for sentinel in self.sentinels:
            self.start_sentinel(sentinel)
        for sentinel in self.sentinels:
            wait_until(lambda s=sentinel: self.knows_all(s), sentinel, "Sentinel knows all")
        return self

    def __exit__(self, *_):
        end(*self.sentinels, *self.servers)

    def say(self, sentinel):
        """What it says of the master, and which server that is."""
        answer = sentinel.ask("SENTINEL", "MASTER", self.NAME)
        said = dict(zip(answer[::2], answer[1::2]))
        return said, next(r for r in self.servers if
                          (r.host, r.port) == (said["ip"], int(said["port"])))

    def settled(self):
        """The master where all agree and none is about to change it, else None."""
        said = [self.say(s) for s in self.sentinels]
        same = all(s["flags"] == "master" and r is said[0][1] for s, r in said)
        return said[0][1] if same else None

    def masters(self):
        return [wait_until(self.settled, self.sentinels[0], "one master")]

    def wait_master_but(self, old):
        """Another is the master."""
        def new():
            named = [self.say(s)[1] for s in self.sentinels]
            return next((r for r in named if r is not old and info(r)["role"] == "master"), None)
        return wait_until(new, self.sentinels[0], "another master")

    def kill_master(self, _lot=None):
        (old,) = self.masters()
        old.kill()
        self.wait_master_but(old)
        return old

    def cut_replica(self, redis):
        """It gets nothing of its master any more, keeps what it has, and looks alive."""
        (master,) = self.masters()
        redis.kill()
        master.ask("ACL", "SETUSER", "default", "-psync", "-sync")
        redis.start()
        wait_until(lambda: self.is_seen(redis), self.sentinels[0], "the replica is seen again")

    def is_seen(self, redis):
        for answer in self.sentinels[0].ask("SENTINEL", "REPLICAS", self.NAME):
            said = dict(zip(answer[::2], answer[1::2]))
            if said["name"] == redis.server:
                return said["flags"] == "slave"
        return False

    def bring_back(self, redis):
        self.start_replica(redis, self.wait_master_but(redis))
        wait_until(lambda: info(redis)["master_link_status"] == "up", redis, "its master's replica")


class Cluster:
    """Three masters, each with a replica."""

    kind = "cluster"
    MASTERS = 3

    def __init__(self, folder, host=None):
        host = host or ports.address()
        self.servers = [
            Redis(folder / f"redis{n}", {
                **REPLICATED, "cluster-enabled": "yes", "cluster-node-timeout": DOWN_MS,
                "cluster-replica-validity-factor": 0, "cluster-announce-ip": host,
                "cluster-port": ports.free_port(host)}, host)
            for n in range(2 * self.MASTERS)]

    def options(self):
        return {"cluster": [redis.server for redis in self.servers]}

    def __enter__(self):
        first = self.servers[0]
        for redis in self.servers:
            redis.start()
        edges = [16384 * n // self.MASTERS for n in range(self.MASTERS + 1)]
        for n, redis in enumerate(self.servers):
            if n < self.MASTERS:
                redis.ask("CLUSTER", "ADDSLOTSRANGE", edges[n], edges[n + 1] - 1)
            redis.ask("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for redis in self.servers[1:]:
            first.ask("CLUSTER", "MEET", redis.host, redis.port, redis.options["cluster-port"])
        for redis in self.servers:
            wait_until(lambda r=redis: self.state(r)["cluster_known_nodes"] == str(
                len(self.servers)), redis, "all know each other")
        for master, replica in zip(self.servers, self.servers[self.MASTERS:]):
            replica.ask("CLUSTER", "REPLICATE", master.ask("CLUSTER", "MYID"))
        self.wait_whole()
        return self

    def __exit__(self, *_):
        end(*self.servers)

    def state(self, redis):
        lines = redis.ask("CLUSTER", "INFO").splitlines()
        return dict(line.split(":", 1) for line in lines)

    def wait_whole(self):
        """All slots are served, and each master has a replica."""
        for redis in self.servers:
            wait_until(lambda r=redis: self.state(r)["cluster_state"] == "ok", redis,
                       "a Cluster that works")
        for redis in self.masters():
            wait_until(lambda r=redis: online_replicas(r) == 1, redis, "a replica")

    def running(self):
        return [r for r in self.servers if r.process.poll() is None]

    def masters(self):
        return [r for r in self.running() if info(r)["role"] == "master"]

    def kill_master(self, lot):
        old = lot.choice(self.masters())
        replica = next(r for r in self.running() if info(r)["role"] == "slave" and
                       info(r)["master_port"] == str(old.port))
        old.kill()
        wait_until(lambda: info(replica)["role"] == "master" and
                   self.state(replica)["cluster_state"] == "ok", replica, "a new master")
        return old

    def bring_back(self, redis):
        """Its files say that it was a master; the others tell it what it is now."""
        redis.start()
        wait_until(lambda: info(redis)["role"] == "slave" and
                   info(redis)["master_link_status"] == "up", redis, "a replica")
        self.wait_whole()


KINDS = {kind.kind: kind for kind in (Single, Sentinels, Cluster)}
