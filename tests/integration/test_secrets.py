# SPDX-License-Identifier: Apache-2.0
"""Keys of providers: from a file or the environment, read again on SIGHUP, and shown to nobody but the provider."""

import glob
import http.server
import json
import os
import signal
import subprocess
import threading
import uuid

import httpx
import pytest

from conftest import running
from testenv.api import chat
from testenv.stack import ROOT, Stack, program
from testenv.wait import wait_until

NOSY = ("plain", "html", "stream", "code")
PIECE = 12  # characters of a secret that nobody should see in a row


class NosyProvider:
    """Answers every call with an error that quotes the request's headers, in the way its path says."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # pylint: disable=invalid-name
                self.do_POST()

            def do_POST(self):  # pylint: disable=invalid-name
                self.rfile.read(int(self.headers.get("content-length") or 0))
                said = self.headers.get("authorization") or ""
                how = self.path.split("/")[1]
                if how == "stream":
                    self.answer(200, "text/event-stream", "data: " + json.dumps(
                        {"error": {"message": f"unexpected: {said}", "code": 500}}) + "\n\n")
                elif how == "html":
                    self.answer(502, "text/html", f"<html>{said}</html>")
                elif how == "code":
                    self.answer(400, "application/json", json.dumps({"error": {"message": "m", "code": said[7:]}}))
                else:
                    self.answer(400, "application/json", json.dumps({"error": {"message": f"bad header: {said}"}}))

            def answer(self, status, kind, text):
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):  # pylint: disable=arguments-differ
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def canary():
    return f"sk-{uuid.uuid4().hex}{uuid.uuid4().hex}"


class Keys:
    """What the configuration's keys are now, and all that they ever were."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "main.key")
        self.in_environment = canary()
        self.all = [self.in_environment]
        self.put(canary())

    def put(self, key, seen=True):
        with open(self.path, "w", encoding="ascii") as file:
            file.write(key + "\n")
        self.now = key
        if seen:
            self.all.append(key)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(str(tmp_path_factory.mktemp("keys")))


@pytest.fixture(scope="module")
def config(keys):
    nosy = NosyProvider()
    path = os.path.join(os.path.dirname(keys.path), "nightshift.yaml")
    prices = os.path.join(ROOT, "deploy", "local", "prices.json")
    providers = {"main": ("${SIMULATOR_URL}/main/v1", "file:main.key"),
                 "env": ("${SIMULATOR_URL}/env/v1", "${CANARY_OF_THE_ENVIRONMENT}"),
                 **{how: (f"{nosy.url}/{how}/v1", "${CANARY_OF_THE_ENVIRONMENT}") for how in NOSY}}
    text = f"log_level: debug\ndrain_ms: 5000\nprices: {prices}\nproviders:\n"
    for name, (url, key) in providers.items():
        text += f"  {name}: {{format: openai, base_url: \"{url}\", api_key: \"{key}\", prices: openai}}\n"
    text += "routes:\n"
    for name in providers:
        text += f"  {name}: {{strategy: fallback, targets: [{{provider: {name}, model: gpt-4o-mini}}]}}\n"
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    yield path
    nosy.close()


@pytest.fixture(scope="module")
def stack(keys, config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANARY_OF_THE_ENVIRONMENT", keys.in_environment)
        yield from running(Stack(broker="embedded", config=config))


@pytest.fixture(scope="module")
def secrets(stack, keys):
    """All that must not be seen; a function, because keys change."""
    def own(name):
        with open(os.path.join(stack.folder, "secrets", name), encoding="ascii") as file:
            return file.read().strip()
    # Of an API key the first part is its public id.
    fixed = [own("pepper"), own("data_key"), stack.environment["NIGHTSHIFT_API_KEY"][-24:],
             stack.environment["NIGHTSHIFT_ADMIN_KEY"][-24:], stack.environment["NIGHTSHIFT_WEBHOOK_SECRET"][6:]]
    return lambda: fixed + keys.all


def assert_hidden(secrets, where, text):
    for secret in secrets():
        assert len(secret) >= PIECE
        for at in range(len(secret) - PIECE + 1):
            assert secret[at:at + PIECE] not in text, f"{where} shows a secret: ...{secret[at:at + PIECE]}..."


def key_sent(stack, provider, client):
    """The end of the key that a job of now brings to the provider."""
    request = chat(str(uuid.uuid4()), model=provider, tokens=1)
    assert client.run(request)["state"] == "succeeded"
    return stack.simulator.calls(request)[-1]["key"]


def rows(stack):
    """The text of every table."""
    names = [row["name"] for row in stack.sql.rows(
        "SELECT c.oid::regclass::text AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema)'")]
    assert len(names) > 10
    return {name: "\n".join(row["text"] for row in stack.sql.rows(f"SELECT t::text AS text FROM {name} AS t"))
            for name in names}


def test_keys_come_from_file_and_environment(stack, keys):
    api = stack.api()
    assert key_sent(stack, "main", api) == keys.now[-4:]
    assert key_sent(stack, "env", api) == keys.in_environment[-4:]


@pytest.mark.parametrize("how", NOSY)
def test_an_error_that_quotes_the_key_is_not_shown(stack, secrets, how):
    api = stack.api()
    job = api.run(chat(how, model=how), max_attempts=1)
    assert job["state"] == "failed"
    assert_hidden(secrets, "the job", json.dumps(job))
    assert_hidden(secrets, "its events", json.dumps([event.data for event in api.all_events(job["id"])]))


def test_a_new_key_is_taken_from_its_file_on_hup(stack, keys):
    api = stack.api()
    pids = stack.children("worker-1")
    keys.put(canary())
    os.kill(stack.pid("worker-1"), signal.SIGHUP)
    wait_until(lambda: key_sent(stack, "main", api) == keys.now[-4:], 15, "the new key at the provider")
    assert stack.children("worker-1") == pids


def reload_failures(stack):
    page = httpx.get(f"http://127.0.0.1:{stack.port('worker-1-metrics')}/metrics", trust_env=False).text
    return sum(int(line.split()[-1]) for line in page.splitlines()
               if line.startswith("nightshift_reload_failures_total"))


@pytest.mark.parametrize("what", ["empty", "control characters", "not there"])
def test_a_file_without_a_key_is_refused_and_the_old_key_stays(stack, keys, secrets, what):
    api = stack.api()
    good, failures = keys.now, reload_failures(stack)
    bad = "" if what == "empty" else f"{canary()}\a{canary()}"
    keys.all += [part for part in bad.split("\a") if part]
    keys.put(bad, seen=False)
    if what == "not there":
        os.unlink(keys.path)
    os.kill(stack.pid("worker-1"), signal.SIGHUP)
    wait_until(lambda: reload_failures(stack) == failures + 1, 15, "the reload to be refused")
    assert key_sent(stack, "main", api) == good[-4:]
    assert_hidden(secrets, "the log", stack.log("worker-1"))
    keys.put(good, seen=False)


def test_no_log_metric_row_or_command_line_shows_a_secret(stack, secrets):
    """Last in the file: over what all before it left."""
    for name in stack.log_names():
        assert_hidden(secrets, name, stack.log(name.removesuffix(".log")))
    assert " debug " in stack.log("worker-1")
    for url in stack.environment["METRICS_URLS"].split(","):
        assert_hidden(secrets, url, httpx.get(url, trust_env=False).text)
    for name, text in rows(stack).items():
        assert_hidden(secrets, name, text)
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                assert_hidden(secrets, path, file.read().decode(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended


def test_no_process_of_a_daemon_can_be_dumped(stack):
    for name in ("producer-1", "worker-1", "scheduler-1"):
        for pid in (stack.pid(name), *stack.children(name)):
            with open(f"/proc/{pid}/limits", encoding="ascii") as file:
                cores = [line.split()[4:6] for line in file if line.startswith("Max core file size")]
            assert cores == [["0", "0"]], name


def test_checks_show_no_secret(stack, keys, secrets, config):
    environment = {**os.environ, **stack.environment, "CANARY_OF_THE_ENVIRONMENT": keys.in_environment}
    own = [os.path.join(stack.folder, "config", "defaults.yaml"), config]
    for daemon in ("producer", "worker", "scheduler"):
        done = subprocess.run([program(f"nightshift-{daemon}"), "--check-config", *own], capture_output=True,
                              text=True, env=environment, timeout=30, check=False)
        assert_hidden(secrets, f"{daemon} --check-config", done.stdout + done.stderr)
    words = [word for path in own for word in ("--config", path)]
    done = subprocess.run([program("nightshift"), "doctor", *words], capture_output=True, text=True,
                          env=environment, timeout=60, check=False)
    assert "plain" in done.stdout, done.stderr
    assert_hidden(secrets, "doctor", done.stdout + done.stderr)
