# SPDX-License-Identifier: Apache-2.0
"""`nightshift doctor` with each of the seven parts dead or frozen in turn, and with wrong settings."""

import http.server
import json
import os
import re
import subprocess
import threading

import pytest

from conftest import running
from testenv.cli import Cli
from testenv.clock import Clock
from testenv.namespace import MountNamespace
from testenv.stack import Stack
from testenv.wait import Stopwatch, wait_until

FAILED = 1
PARTS = ("postgres", "redis", "broker", "simulator", "producer-1", "worker-1", "scheduler-1")
# Which check names it, what it says is wrong, and what to do.
DIAGNOSES = {
    "postgres": ("postgres", ("refused", "no answer"), ("start Postgres", "restart it")),
    "redis": ("redis", ("refused", "does not answer"), ("start Redis", "is Redis stopped")),
    "broker": ("kafka", ("no broker answers", "not there in time"), ("start Kafka", "is the broker stopped")),
    "simulator": ("providers", ("cannot be reached",), ("is the provider up",)),
    "producer-1": ("producer", ("connect", "timeout"), ("start nightshift-producer",)),
    "worker-1": ("workers", ("no worker is alive",), ("start nightshift-worker",)),
    "scheduler-1": ("scheduler", ("no scheduler leads",), ("start nightshift-scheduler",)),
}
LIMIT_S = 15


@pytest.fixture(scope="module")
def stack():
    yield from running(Stack(broker="embedded", config=None))


@pytest.fixture(autouse=True)
def all_alive(stack):
    yield
    for name in PARTS:
        if stack.state(name) != "running":
            stack.restart(name)


@pytest.fixture
def cli(stack):
    client = Cli(stack)
    yield client
    client.close()


def configs(stack, *more):
    files = [os.path.join(stack.folder, "config", name) for name in ("defaults.yaml", "simulator.yaml")]
    return [word for path in [*files, *more] for word in ("--config", path)]


def examine(cli, *words, environment=None, before=()):
    """(findings by check, exit status); within a bounded time, whatever is frozen."""
    watch = Stopwatch()
    done = subprocess.run([*before, cli.program, "doctor", *words, "--json"], capture_output=True, text=True,
                          env={**cli.environment, **(environment or {})}, timeout=60, check=False)
    assert watch.seconds < LIMIT_S, f"{watch.seconds} s"
    report = json.loads(done.stdout)
    assert report["ok"] == (done.returncode == 0)
    findings = {}
    for finding in report["checks"]:
        findings.setdefault(finding["check"], []).append(finding)
    return findings, done.returncode


def bad(findings, check):
    return [finding for finding in findings[check] if finding["state"] == "bad"]


class NoModels(http.server.BaseHTTPRequestHandler):
    """A provider that lists no models."""

    def do_GET(self):  # pylint: disable=invalid-name
        self.send_response(404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        pass


def test_a_key_that_cannot_be_tried_is_not_called_good(cli):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NoModels) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        path = cli.path("providers.yaml", "providers:\n"
                        f"  keyed: {{format: openai, base_url: \"{url}\", api_key: sk-never-tried}}\n"
                        f"  open: {{format: openai, base_url: \"{url}\"}}\n"
                        "routes:\n  fast: {targets: [{provider: keyed, model: m, free: true}]}\n")
        findings, _ = examine(cli, "--config", path)
        server.shutdown()
    told = {finding["text"].split()[0]: finding for finding in findings["providers"]}
    assert told["keyed"]["state"] == "skipped" and "key was not tried" in told["keyed"]["text"]
    assert told["open"]["state"] == "ok" and "no key is set" in told["open"]["text"]
    assert "sk-never-tried" not in json.dumps(findings)


def test_all_is_well(stack, cli):
    def is_well():
        findings, status = examine(cli, *configs(stack))
        return status == 0 and all(finding["state"] == "ok" for check, rows in findings.items()
                                   for finding in rows if check != "disk")
    wait_until(is_well, 30, "a healthy stack")
    done = cli.run("doctor", *configs(stack))
    assert "accepts the key" in done.stdout and "leads" in done.stdout


@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.parametrize("part", PARTS)
def test_each_part_that_is_dead_or_frozen_is_named_with_a_remedy(stack, cli, part, how):
    check, causes, remedies = DIAGNOSES[part]
    getattr(stack, how)(part)

    def diagnosis():
        findings, status = examine(cli, *configs(stack))
        return status == FAILED and bad(findings, check)
    found = wait_until(diagnosis, 60, f"doctor to see that {part} is away")
    assert any(cause in found[0]["text"] for cause in causes), found
    assert any(remedy in found[0]["remedy"] for remedy in remedies), found
    if how == "kill":
        text = cli.run("doctor", *configs(stack), expect=FAILED).stdout
        assert f"✗ {check}" in text and any(remedy in text for remedy in remedies)


def test_nothing_else_is_blamed_for_postgres(stack, cli):
    stack.stop("postgres")
    findings, _ = examine(cli, *configs(stack))
    blamed = {check for check in findings if bad(findings, check)}
    assert blamed <= {"postgres", "producer"}, findings


def test_a_broken_configuration_is_named_by_file_and_line(cli):
    path = cli.path("bad.yaml", "providers:\n  main:\n    format: morse\n    base_url: http://x\n")
    findings, status = examine(cli, "--config", path)
    assert status == FAILED
    assert f"{path}:3" in bad(findings, "config")[0]["text"]
    assert bad(findings, "config")[0]["remedy"]
    findings, _ = examine(cli, "--config", "/nonexistent.yaml")
    assert "/nonexistent.yaml" in bad(findings, "config")[0]["text"]


def test_a_secret_that_cannot_be_read_is_named(stack, cli):
    path = cli.path("secrets.yaml", "secrets: {pepper: \"file:/nonexistent/pepper\"}\n")
    findings, _ = examine(cli, *configs(stack, path))
    assert "secrets.pepper" in bad(findings, "config")[0]["text"]


def test_a_provider_that_refuses_the_key_is_named(stack, cli):
    path = cli.path("key.yaml", "providers:\n  spare: {api_key: bad-key}\n")
    findings, status = examine(cli, *configs(stack, path))
    assert status == FAILED
    assert "spare does not accept the key (401)" in bad(findings, "providers")[0]["text"]
    assert "bad-key" not in json.dumps(findings)
    findings, status = examine(cli, *configs(stack, path), "--no-providers")
    assert findings["providers"][0]["state"] == "skipped" and status == 0


def test_keys_of_ours_that_are_refused_are_named(stack, cli):
    findings, _ = examine(cli, *configs(stack), environment={"NIGHTSHIFT_API_KEY": "ns_wrong",
                                                             "NIGHTSHIFT_ADMIN_KEY": "ns_wrong"})
    texts = " ".join(finding["text"] for finding in bad(findings, "producer"))
    assert "the API key is not accepted" in texts and "the admin key is not accepted" in texts


def test_a_database_without_the_schema_is_named(stack, cli):
    empty = stack.environment["DATABASE_URL"].rsplit("/", 1)[0] + "/postgres"
    findings, _ = examine(cli, environment={"DATABASE_URL": empty})
    assert "nightshift-migrate" in bad(findings, "schema")[0]["remedy"]
    absent = stack.environment["DATABASE_URL"].rsplit("/", 1)[0] + "/nosuch"
    findings, _ = examine(cli, environment={"DATABASE_URL": absent})
    assert "does not exist" in bad(findings, "postgres")[0]["text"]


def test_a_redis_that_may_evict_or_cannot_write_is_named(stack, cli):
    import redis  # pylint: disable=import-outside-toplevel
    server = redis.Redis.from_url(stack.environment["REDIS_URL"])
    environment = {"REDIS_URL": stack.environment["REDIS_URL"]}
    try:
        server.config_set("maxmemory", 1)
        findings, _ = examine(cli, environment=environment)
        assert "OOM" in bad(findings, "redis")[0]["text"] and "maxmemory" in bad(findings, "redis")[0]["remedy"]
        server.config_set("maxmemory", 1 << 30)
        server.config_set("maxmemory-policy", "allkeys-lru")
        findings, _ = examine(cli, environment=environment)
        assert "allkeys-lru" in bad(findings, "redis")[0]["text"]
    finally:
        server.config_set("maxmemory", 0)
        server.config_set("maxmemory-policy", "noeviction")


def test_a_folder_for_temporary_files_that_is_none_is_named(cli):
    findings, status = examine(cli, environment={"TMPDIR": "/nonexistent"})
    assert status == FAILED
    assert "/nonexistent" in bad(findings, "disk")[0]["text"] and "TMPDIR" in bad(findings, "disk")[0]["remedy"]


@pytest.mark.parametrize("seconds, state, remedies", [
    (10, "bad", ("same NTP servers", "timedatectl", "chronyc tracking")),
    (2, "warning", ("NTP", "timedatectl", "chronyc tracking")),
])
def test_a_clock_that_is_off_is_named_with_a_remedy(stack, cli, tmp_path, seconds, state, remedies):
    """This machine's against the database's; without the offset the same doctor finds nothing."""
    clock = Clock(tmp_path)
    words = ("--no-providers", *configs(stack))
    assert examine(cli, *words, environment=clock.environment)[0]["clock"][0]["state"] == "ok"
    clock.jump(seconds)
    findings, status = examine(cli, *words, environment=clock.environment)
    (found,) = findings["clock"]
    assert found["state"] == state and (status == FAILED or state == "warning"), findings
    told = r"this machine's clock and the database's are -(\d+) ms apart"
    off_ms = re.fullmatch(told, found["text"])
    assert off_ms and abs(int(off_ms[1]) - seconds * 1000) <= 500, found
    assert all(remedy in found["remedy"] for remedy in remedies), found
    done = cli.run("doctor", *words, environment=clock.environment, expect=status)
    assert re.search(told, done.stdout) and remedies[0] in done.stdout


def test_a_disk_that_is_full_is_named_with_a_remedy(cli):
    def look(size):
        with MountNamespace(size) as disk:
            findings, status = examine(cli, before=disk.enter(), environment={"TMPDIR": disk.folder})
        return [row for row in findings["disk"] if row["text"].startswith(f"temporary files ({disk.folder})")], status

    (found,), status = look("64m")
    assert found["state"] == "bad" and status == FAILED, found
    assert "is full: 64 MB and " in found["text"] and "make room there, or move it to a larger disk" in found["remedy"]
    assert look("400m")[0] == []


def test_no_secret_is_printed(stack, cli):
    with_password = stack.environment["DATABASE_URL"].replace("nightshift@", "nightshift:topsecret@")
    for environment in ({"DATABASE_URL": with_password},
                        {"DATABASE_URL": with_password.replace(str(stack.port("postgres")), "1")},
                        {"REDIS_URL": "redis://:topsecret@127.0.0.1:1"}):
        findings, _ = examine(cli, environment=environment)
        assert "topsecret" not in json.dumps(findings)


def test_without_a_configuration_it_says_what_it_could_not_look_at(cli):
    findings, _ = examine(cli)
    assert findings["postgres"][0]["state"] == "skipped"
    assert "DATABASE_URL" in findings["postgres"][0]["text"]
    assert findings["producer"][0]["state"] == "ok"


