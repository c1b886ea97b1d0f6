# SPDX-License-Identifier: Apache-2.0
"""What each kind of process needs to start, and how it shows that it answers."""

import base64
import glob
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request

from .process import Process, free_port


def http_ok(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def tcp_open(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


class Service:
    """One named part: how to start it, when it answers, how it stops."""

    stop_signal = signal.SIGTERM
    start_timeout_s = 30
    stop_timeout_s = 40

    def __init__(self, stack, name):
        self.stack = stack
        self.name = name
        self.process = Process(stack.folder, name)

    def prepare(self):
        """Makes what the first start needs; must be harmless when it is there."""

    def command(self):
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)

    def preexec(self):
        return None

    def answers(self):
        raise NotImplementedError


class Postgres(Service):
    """A private cluster.  Postgres refuses root and the user postgres cannot enter /root: as root it
    lives, as postgres, in a scratch folder of its own, which also keeps the socket path short."""

    stop_signal = signal.SIGINT  # fast shutdown

    def programs(self):
        for folder in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True):
            if os.path.exists(os.path.join(folder, "initdb")):
                return folder
        found = shutil.which("initdb")
        if found:
            return os.path.dirname(found)
        raise self.stack.error("Postgres is not installed; run `make deps`")

    def account(self):
        return pwd.getpwnam("postgres") if os.geteuid() == 0 else None

    def preexec(self):
        account = self.account()
        if not account:
            return None

        def become_postgres():
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        return become_postgres

    def home(self):
        return self.stack.state["postgres_home"]

    def prepare(self):
        """As a start after a crash finds it.  The lock files of a killed server go: its pid may still
        be there as a zombie that nobody has fetched, and Postgres would take that for alive."""
        state = self.stack.state
        if "postgres_home" in state and self.process.state() == "dead":
            for path in (os.path.join("data", "postmaster.pid"),
                         f".s.PGSQL.{self.stack.port('postgres')}.lock"):
                if os.path.exists(os.path.join(self.home(), path)):
                    os.unlink(os.path.join(self.home(), path))
        if "postgres_home" not in state:
            state["postgres_home"] = tempfile.mkdtemp(prefix="nightshift-pg-", dir="/tmp")
            account = self.account()
            if account:
                os.chown(state["postgres_home"], account.pw_uid, account.pw_gid)
            self.stack.save()
        if not os.path.isdir(os.path.join(self.home(), "data")):
            self.run("initdb", "-D", os.path.join(self.home(), "data"), "-U", "nightshift",
                     "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def run(self, program, *arguments):
        done = subprocess.run([os.path.join(self.programs(), program), *arguments],
                              cwd=self.home(), preexec_fn=self.preexec(), capture_output=True,
                              text=True, check=False)
        if done.returncode:
            raise self.stack.error(f"{program} failed: {done.stderr.strip()}")

    def command(self):
        settings = {"listen_addresses": "127.0.0.1", "port": self.stack.port("postgres"),
                    "unix_socket_directories": self.home(), "max_connections": 400,
                    "shared_buffers": "128MB", "max_wal_size": "2GB", "log_min_messages": "warning",
                    "log_statement": "none", "synchronous_commit": "on", "wal_compression": "on"}
        settings.update(self.stack.state.get("postgres_settings", {}))
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [os.path.join(self.programs(), "postgres"), "-D",
                os.path.join(self.home(), "data"), *options]

    def answers(self):
        done = subprocess.run([os.path.join(self.programs(), "pg_isready"), "-q", "-h", "127.0.0.1",
                               "-p", str(self.stack.port("postgres")), "-U", "nightshift",
                               "-d", "postgres"], check=False)
        return done.returncode == 0

    def after_start(self):
        """The database, and the role of the daemons, which owns nothing."""
        sql = ("SELECT format('CREATE ROLE %I LOGIN', 'nightshift_app') WHERE NOT EXISTS "
               "(SELECT FROM pg_roles WHERE rolname = 'nightshift_app') \\gexec\n"
               "SELECT 'CREATE DATABASE nightshift' WHERE NOT EXISTS "
               "(SELECT FROM pg_database WHERE datname = 'nightshift') \\gexec\n")
        subprocess.run([os.path.join(self.programs(), "psql"), "-qXAt", "-h", "127.0.0.1",
                        "-p", str(self.stack.port("postgres")), "-U", "nightshift",
                        "-d", "postgres"], input=sql, text=True, check=True,
                       stdout=subprocess.DEVNULL)

    def url(self, user):
        return f"postgresql://{user}@127.0.0.1:{self.stack.port('postgres')}/nightshift"

    def wipe(self):
        if "postgres_home" in self.stack.state:
            shutil.rmtree(self.home(), ignore_errors=True)


class Redis(Service):
    def command(self):
        folder = os.path.join(self.stack.folder, "redis")
        os.makedirs(folder, exist_ok=True)
        program = shutil.which("redis-server")
        if not program:
            raise self.stack.error("redis-server is not installed; run `make deps`")
        return [program, "--port", str(self.stack.port("redis")), "--bind", "127.0.0.1",
                "--dir", folder, "--save", "", "--appendonly", "no",
                "--maxmemory-policy", "noeviction", "--daemonize", "no"]

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.stack.port("redis")), timeout=1) as peer:
                peer.sendall(b"PING\r\n")
                return peer.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class EmbeddedBroker(Service):
    def command(self):
        topics = [part for name in ("high", "normal", "low")
                  for part in ("--topic", f"nightshift.{name}:32")]
        return [self.stack.program("nightshift-broker"), "--port", str(self.stack.port("broker")),
                *topics]

    def answers(self):
        return tcp_open(self.stack.port("broker"))


class KafkaBroker(Service):
    start_timeout_s = 60

    def command(self):
        return [os.path.join(self.stack.root, "deploy/local/kafka/run"),
                "--dir", os.path.join(self.stack.folder, "kafka"),
                "--port", str(self.stack.port("broker"))]

    def answers(self):
        return tcp_open(self.stack.port("broker"))


class Simulator(Service):
    def command(self):
        return [self.stack.program("nightshift-simulator"),
                "--port", str(self.stack.port("simulator")),
                "--log", os.path.join(self.stack.folder, "log", "simulator-calls.jsonl")]

    def answers(self):
        return http_ok(f"http://127.0.0.1:{self.stack.port('simulator')}/sim/stats")


class Daemon(Service):
    """A producer, worker or scheduler.  Its configuration is three layers: the stack's defaults, the
    user's file (or the simulator's providers), and the addresses of this instance."""

    def __init__(self, stack, kind, number):
        super().__init__(stack, f"{kind}-{number}")
        self.kind = kind

    def layers(self):
        return [self.stack.path("config", "defaults.yaml"),
                self.stack.state.get("user_config") or self.stack.path("config", "simulator.yaml"),
                self.stack.path("config", f"{self.name}.yaml")]

    def prepare(self):
        lines = [f"metrics_listen: 127.0.0.1:{self.metrics_port()}",
                 f"processes: {self.stack.state['processes']}"]
        if self.kind == "producer":
            lines.append(f"producer: {{listen: \"127.0.0.1:{self.stack.port(self.name)}\"}}")
        self.stack.write(("config", f"{self.name}.yaml"), "\n".join(lines) + "\n")

    def metrics_port(self):
        return self.stack.port(f"{self.name}-metrics")

    def command(self):
        return [self.stack.program(f"nightshift-{self.kind}"),
                *[part for path in self.layers() for part in ("--config", path)]]

    def environment(self):
        environment = super().environment()
        for name in ("DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS"):
            environment.pop(name, None)
        # For a user's file that keeps the simulator beside its own providers.
        environment["SIMULATOR_URL"] = f"http://127.0.0.1:{self.stack.port('simulator')}"
        return environment

    def answers(self):
        port = self.stack.port(self.name) if self.kind == "producer" else self.metrics_port()
        return http_ok(f"http://127.0.0.1:{port}/readyz")


def write_secret(path):
    """32 random bytes, base64, once."""
    if not os.path.exists(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(base64.b64encode(secrets.token_bytes(32)).decode() + "\n")


def call_admin(url, key, path, body):
    """POST to the admin API; the answer's object."""
    request = urllib.request.Request(url + path, json.dumps(body).encode(), method="POST",
                                     headers={"authorization": f"Bearer {key}",
                                              "content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=15) as answer:
        return json.load(answer)


__all__ = ["Postgres", "Redis", "EmbeddedBroker", "KafkaBroker", "Simulator", "Daemon",
           "call_admin", "free_port", "write_secret"]
