# SPDX-License-Identifier: Apache-2.0
"""The command line against a real stack: every command, its output for scripts, its exit status."""

import csv
import http.server
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import threading
import time
import uuid

import pytest

from conftest import running
from testenv.api import chat, soon
from testenv.cli import ESCAPE, Cli
from testenv.stack import ROOT, Stack
from testenv.wait import wait_until

DONE, FAILED, USAGE, UNREACHABLE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130


@pytest.fixture(scope="module")
def stack():
    yield from running(Stack(broker="embedded"))


@pytest.fixture
def cli(stack):
    client = Cli(stack)
    yield client
    client.close()


def unique(prefix="t"):
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


# --- one job ------------------------------------------------------------------------------------


def test_submit_prints_the_id_and_nothing_else(cli, api):
    job = cli.out("submit", "-m", "fast", "--workflow", "wf", "--metadata", "a=1", "--metadata", "b=2",
                  "--priority", "high", "--max-tokens", "7", "--user", "u1", "hello")
    seen = api.ended(job)
    assert (seen["workflow"], seen["priority"], seen["user"]) == ("wf", "high", "u1")
    assert seen["metadata"] == {"a": "1", "b": "2"}
    assert api.job(job, include="request")["request"]["max_tokens"] == 7


def test_wait_and_stream_print_the_text(cli, api):
    prompt = f"{unique()} [[sim tokens=30 rate=60]]"
    waited = cli.out("submit", "-m", "fast", prompt, "--wait")
    assert len(waited.split()) == 30
    assert cli.out("submit", "-m", "fast", prompt, "--stream") == waited
    newest = cli.out("list", "--limit", "1", "--csv").splitlines()[1].split(",")[0]
    assert api.job(newest)["result"]["text"] == waited


def test_stream_prints_tokens_as_they_come(cli, simulator):
    gate = unique("gate")
    process = cli.start("submit", "-m", "fast", f"x [[sim tokens=20 after=5 hold={gate}]]", "--stream")
    wait_until(lambda: simulator.holding(gate), 20, "the call")
    first = os.read(process.stdout.fileno(), 4096).decode()
    assert first.strip() and process.poll() is None
    simulator.release(gate)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == DONE
    assert len((first + rest.decode()).split()) == 20


def test_text_from_a_file_and_from_standard_input(cli, api):
    text = "echo this: ü, \"quotes\" and\ntwo lines [[sim echo=1]]"
    path = cli.path("prompt.txt", text)
    expected = cli.out("submit", "-m", "fast", text, "--wait")
    assert "ü" in expected and "\n" in expected
    assert cli.out("submit", "-m", "fast", "-f", path, "--wait") == expected
    assert cli.out("submit", "-m", "fast", "-", "--wait", stdin=text) == expected


def test_a_whole_body_is_sent_as_its_own_bytes(cli, api):
    body = json.dumps({"request": chat("hi"), "priority": "low"})[:-1] + ', "max_cost_usd": "0.250000001"}'
    job = cli.out("submit", "--body", "-", stdin=body)
    assert api.ended(job)["priority"] == "low"


def test_an_idempotency_key_makes_one_job(cli):
    key = unique("key")
    first = cli.out("submit", "-m", "fast", "same", "--idempotency-key", key)
    assert cli.out("submit", "-m", "fast", "same", "--idempotency-key", key) == first
    assert "idempotency_mismatch" in cli.run("submit", "-m", "fast", "other", "--idempotency-key", key,
                                             expect=REFUSED).stderr


def test_json_is_what_the_server_said(cli, api):
    job = cli.out("submit", "-m", "fast", "hello")
    api.ended(job)
    assert json.loads(cli.out("get", job, "--json")) == api.job(job)
    listed = json.loads(cli.out("list", "--json", "--limit", "2"))
    assert listed["object"] == "list" and len(listed["data"]) == 2
    assert json.loads(cli.out("submit", "-m", "fast", "hi", "--wait", "--json"))["state"] == "succeeded"


def test_get_shows_the_job_and_its_calls(cli, api):
    job = cli.out("submit", "-m", "fast", "hello", "--metadata", "customer=42")
    text = api.ended(job)["result"]["text"]
    shown = cli.out("get", job)
    for part in (job, "succeeded", '"customer":"42"', "settled", "gpt-4o-mini", text):
        assert part in shown
    assert cli.out("get", job, "--text") == text


def test_list_filters_and_pages(cli):
    workflow = unique("wf")
    jobs = [cli.out("submit", "-m", "fast", "x", "--workflow", workflow) for _ in range(3)]
    rows = cli.out("list", "--workflow", workflow, "--csv").splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == jobs[::-1]
    rows = cli.out("list", "--workflow", workflow, "--order", "asc", "--limit", "1", "--csv").splitlines()
    assert rows[1].split(",")[0] == jobs[0]
    rows = cli.out("list", "--workflow", workflow, "--after", jobs[1], "--csv").splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [jobs[0]]


def test_watch_tells_the_story_on_standard_error(cli):
    job = cli.out("submit", "-m", "fast", "x [[sim tokens=10]]")
    done = cli.run("watch", job)
    assert len(done.stdout.split()) == 10
    assert re.search(r"attempt 1: main gpt-4o-mini", done.stderr)
    assert re.search(r"succeeded: \d+ \+ 10 tokens, \$", done.stderr)
    events = [json.loads(line) for line in cli.out("watch", job, "--json").splitlines()]
    assert [event["event"] for event in events][0] == "job.queued"
    assert events[-1]["event"] == "job.succeeded"
    rest = [json.loads(line) for line in
            cli.out("watch", job, "--json", "--after", events[0]["id"]).splitlines()]
    assert rest == events[1:]


def test_watch_goes_on_where_a_broken_connection_broke(stack, cli, simulator):
    gate = unique("gate")
    job = cli.out("submit", "-m", "fast", f"x [[sim tokens=40 after=20 hold={gate}]]")
    process = cli.start("watch", job)
    wait_until(lambda: simulator.holding(gate), 20, "the call")
    first = os.read(process.stdout.fileno(), 65536)
    assert first
    stack.kill("producer-1")
    stack.restart("producer-1")
    simulator.release(gate)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == DONE, errors
    assert len((first + rest).split()) == 40
    assert (first + rest).decode().strip() == cli.out("get", job, "--text")


class SilentProxy(http.server.BaseHTTPRequestHandler):
    """Answers the event stream with nothing but a good status, but for the asks in `bodies`."""

    def do_GET(self):  # pylint: disable=invalid-name
        self.server.asked.append(time.monotonic())
        body = self.server.bodies.get(len(self.server.asked), b"")
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        pass


@pytest.fixture
def silent_proxy():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SilentProxy) as server:
        server.asked, server.bodies = [], {}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def watch_through(proxy, cli):
    url = f"http://127.0.0.1:{proxy.server_address[1]}"
    return cli.start("watch", "job_1", environment={**cli.environment, "NIGHTSHIFT_URL": url})


def test_watch_asks_a_proxy_that_has_nothing_to_say_more_and_more_seldom(cli, silent_proxy):
    silent_proxy.bodies = {
        4: b'event: output.delta\nid: 0\ndata: {"attempt": 1, "offset": 0, "text": "word"}\n\n',
        5: b'event: job.succeeded\nid: 1\ndata: {"id": "job_1", "state": "succeeded"}\n\n'}
    process = watch_through(silent_proxy, cli)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == DONE and out.strip() == b"word", errors
    pauses = [after - before for before, after in zip(silent_proxy.asked, silent_proxy.asked[1:])]
    assert len(pauses) == 4
    assert pauses[1] >= 0.8 and pauses[2] >= 1.6, pauses
    assert pauses[3] < pauses[2], "what came did not count"


def test_watch_is_interrupted_in_the_middle_of_a_pause(cli, silent_proxy):
    process = watch_through(silent_proxy, cli)
    wait_until(lambda: len(silent_proxy.asked) == 4, 30, "a pause of seconds")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert len(silent_proxy.asked) == 4


def test_cancel_and_replay(cli, api):
    job = cli.out("submit", "-m", "fast", "x", "--run-at", soon(hours=1))
    assert cli.out("cancel", job) == f"{job} cancelled"
    assert "replay" not in cli.out("get", job)
    again = cli.out("replay", job)
    assert api.ended(again)["replay_of"] == job
    assert cli.out("replay", job, "--wait")


# --- exit status --------------------------------------------------------------------------------


def test_exit_status_says_what_happened(cli):
    bad = "x [[sim status=400]]"
    assert "failed: bad_request" in cli.run("submit", "-m", "single", bad, "--wait", expect=FAILED).stderr
    assert "failed" in cli.run("submit", "-m", "single", bad, "--stream", expect=FAILED).stderr
    cli.run("submit", expect=USAGE)
    cli.run("submit", "-m", "fast", expect=USAGE)
    cli.run("frobnicate", expect=USAGE)
    cli.run("list", "--state", "done", expect=USAGE)
    cli.run("keys", expect=USAGE)
    assert "did you mean submit?" in cli.run("sumbit", expect=USAGE).stderr
    assert "model_not_found" in cli.run("submit", "-m", "nosuch", "x", expect=REFUSED).stderr
    cli.run("get", "job_nosuch", expect=REFUSED)
    cli.run("list", expect=UNREACHABLE, environment={"NIGHTSHIFT_URL": "http://127.0.0.1:1"})
    cli.run("list", expect=REFUSED, environment={"NIGHTSHIFT_API_KEY": "ns_wrong_key"})
    assert "NIGHTSHIFT_API_KEY" in cli.run("list", expect=USAGE,
                                           environment={"NIGHTSHIFT_API_KEY": ""}).stderr


def test_a_reader_that_leaves_is_no_disaster(cli):
    process = cli.start("submit", "-m", "fast", "x [[sim tokens=2000 rate=400]]", "--stream")
    os.read(process.stdout.fileno(), 10)
    process.stdout.close()
    process.stderr.read()
    assert process.wait(timeout=30) == FAILED


@pytest.fixture(scope="module")
def ended_job(stack):
    client = Cli(stack)
    job = client.out("submit", "-m", "fast", "hello")
    client.run("get", job, "--wait")
    client.close()
    return job


@pytest.mark.parametrize("words", [
    ["audit", "export"], ["audit", "verify"], ["submit", "-m", "fast", "x", "--stream"],
    ["submit", "-m", "fast", "x", "--wait"], ["submit", "-m", "fast", "x"], ["batch", "FILE", "-m", "fast"],
    ["batch", "FILE", "-m", "fast", "--wait"], ["batch", "FILE", "-m", "fast", "-o", "-", "--csv"],
    ["watch", "JOB"], ["watch", "JOB", "--json"], ["get", "JOB", "--wait"], ["list"], ["list", "--json"],
    ["queues"], ["doctor"], ["--help"], ["man"]], ids=" ".join)
def test_a_full_or_closed_output_is_told(cli, ended_job, words):
    path = cli.path("in.ndjson", json.dumps({"prompt": unique()}) + "\n" + json.dumps({"prompt": unique()}))
    words = [{"FILE": path, "JOB": ended_job}.get(word, word) for word in words]
    for where, why in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        done = subprocess.run(["sh", "-c", f'exec "$0" "$@" {where}', cli.program, *words],
                              stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, check=False,
                              env=cli.environment, timeout=60)
        assert done.returncode == FAILED, done.stderr
        assert done.stderr.count(f"nightshift: standard output: {why}\n") == 1, done.stderr
        assert " succeeded, 0 failed" not in done.stderr, "as if all were well"


def test_results_that_cannot_be_written_leave_no_file(cli):
    path = cli.path("in.ndjson", json.dumps({"prompt": unique()}) + "\n")
    done = cli.run("batch", path, "-m", "fast", "-o", "/dev/full", expect=FAILED)
    assert "/dev/full: No space left on device" in done.stderr
    # Where no file may grow, the results of yesterday stay what they were.
    out = cli.path("out.ndjson", "of yesterday\n")
    done = subprocess.run(["prlimit", "--fsize=100", cli.program, "batch", path, "-m", "fast", "-o", out],
                          capture_output=True, text=True, env=cli.environment, check=False, timeout=60)
    assert done.returncode == FAILED and "temporary file: File too large" in done.stderr, done.stderr
    with open(out, encoding="utf-8") as file:
        assert file.read() == "of yesterday\n"


# --- keys and profiles --------------------------------------------------------------------------


def test_a_profile_names_the_server_and_its_keys(stack, cli):
    folder = os.path.join(cli.home, "nightshift")
    os.makedirs(folder)
    key = cli.path("key", stack.environment["NIGHTSHIFT_API_KEY"] + "\n")
    path = os.path.join(folder, "config.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"profiles:\n  here: {{url: \"{stack.environment['NIGHTSHIFT_URL']}\", "
                   f"api_key: \"file:{key}\"}}\n"
                   "  open: {url: \"http://127.0.0.1:1\", api_key: ns_literal}\n")
    os.chmod(path, 0o644)
    bare = {"NIGHTSHIFT_URL": "http://127.0.0.1:1", "NIGHTSHIFT_API_KEY": "wrong"}
    cli.run("list", "--profile", "here", environment=bare)
    # A key in a file that others may read is refused, before it goes anywhere.
    assert "chmod 600" in cli.run("list", "--profile", "open", expect=USAGE).stderr
    os.chmod(path, 0o600)
    cli.run("list", "--profile", "open", expect=UNREACHABLE)
    cli.run("list", "--profile", "none", expect=USAGE)


def test_no_key_is_ever_on_a_command_line(stack, cli, simulator):
    gate = unique("gate")
    process = cli.start("submit", "-m", "fast", f"x [[sim tokens=9 after=2 hold={gate}]]", "--stream")
    wait_until(lambda: simulator.holding(gate), 20, "the call")
    with open(f"/proc/{process.pid}/cmdline", "rb") as file:
        assert stack.environment["NIGHTSHIFT_API_KEY"].encode() not in file.read()
    with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
        assert file.read().strip() == ""
    simulator.release(gate)
    process.communicate(timeout=30)


# --- batches ------------------------------------------------------------------------------------


def results(text):
    return [json.loads(line) for line in text.splitlines()]


def test_batch_results_come_in_the_order_of_the_input(cli):
    lines = [json.dumps({"prompt": f"{unique()} [[sim echo=1 delay_ms={(60 - i) * 5}]]",
                         "metadata": {"n": str(i)}}) for i in range(60)]
    path = cli.path("in.ndjson", "\n".join(lines) + "\n")
    out = cli.path("out.ndjson")
    done = cli.run("batch", path, "-m", "fast", "-o", out)
    with open(out, encoding="utf-8") as file:
        found = results(file.read())
    assert [row["line"] for row in found] == list(range(1, 61))
    assert [row["metadata"]["n"] for row in found] == [str(i) for i in range(60)]
    assert all(row["state"] == "succeeded" and row["cost_usd"] for row in found)
    assert "60 succeeded, 0 failed, 0 bad lines" in done.stderr
    assert not os.path.exists(out + ".partial")


def test_a_batch_never_overwrites_its_input(cli):
    text = json.dumps({"prompt": unique()}) + "\n"
    path = cli.path("same.ndjson", text)
    link = cli.path("link.ndjson")
    os.symlink(path, link)
    waiting = cli.path("late.partial", text)
    for source, out in ((path, path), (path, link), (link, path), (waiting, cli.path("late"))):
        done = cli.run("batch", source, "-m", "fast", "-o", out, expect=2)
        assert "would overwrite the input" in done.stderr
        with open(source, encoding="utf-8") as file:
            assert file.read() == text


def test_a_path_too_long_for_its_partial_file_is_refused(cli):
    path = cli.path("in.ndjson", json.dumps({"prompt": unique()}) + "\n")
    out = cli.path("long.ndjson")
    folder, name = os.path.split(out)
    out = os.path.join(folder, "./" * ((4092 - len(out)) // 2), name)
    done = cli.run("batch", path, "-m", "fast", "-o", out, expect=2)
    assert "the path is too long" in done.stderr
    assert not os.path.exists(out)


def test_results_go_into_a_pipe_or_device_and_never_in_its_place(cli):
    path = cli.path("in.ndjson", json.dumps({"prompt": unique()}) + "\n")
    pipe = cli.path("pipe")
    os.mkfifo(pipe)
    process = cli.start("batch", path, "-m", "fast", "-o", pipe)
    with open(pipe, encoding="utf-8") as file:
        found = results(file.read())
    assert process.wait(20) == 0
    assert [row["state"] for row in found] == ["succeeded"]
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)
    assert not os.path.exists(pipe + ".partial")
    assert results(cli.run("batch", path, "-m", "fast", "-o", "-").stdout) == found


def test_broken_lines_are_told_by_number_and_the_rest_goes_on(cli):
    lines = ['{"prompt": "one"}', "{broken", "", '{"prompt": 3}', '{"prompt": "x", "priorty": "low"}',
             json.dumps({"request": {"model": "nosuch", "messages": [{"role": "user", "content": "x"}]}}),
             '{"prompt": "[[sim status=400]] bad"}', '{"prompt": "last"}']
    done = cli.run("batch", cli.path("in.ndjson", "\n".join(lines)), "-m", "single", "--wait",
                   expect=FAILED)
    found = results(done.stdout)
    assert [(row["line"], row["state"]) for row in found] == [
        (1, "succeeded"), (2, "refused"), (4, "refused"), (5, "refused"), (6, "refused"), (7, "failed"),
        (8, "succeeded")]
    for number, why in ((2, "column"), (4, "prompt"), (5, "did you mean priority"), (6, "nosuch")):
        assert re.search(rf"^line {number}: .*{why}", done.stderr, re.M), done.stderr
    assert "2 succeeded, 1 failed, 4 bad lines" in done.stderr


def test_csv_goes_in_and_out_and_no_cell_runs(cli):
    path = cli.path("in.csv", 'prompt,metadata.customer,max_tokens\r\n'
                              '"=HYPERLINK(1) [[sim echo=1]]",42,\r\n'
                              '"two\nlines, ""quoted"" [[sim echo=1]]",43,50\r\n'
                              'bad"quote,1,2\r\n'
                              '-1+1 [[sim echo=1]],44,\r\n')
    done = cli.run("batch", path, "-m", "fast", "--wait", "--csv", expect=FAILED)
    rows = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    assert [row["line"] for row in rows] == ["2", "3", "5", "6"]
    assert rows[0]["text"].startswith("'=HYPERLINK(1)")
    assert rows[1]["text"].startswith('two\nlines, "quoted"')
    assert rows[2]["state"] == "refused" and rows[3]["text"].startswith("'-1+1")


def test_a_template_fills_prompts_from_columns(cli):
    path = cli.path("in.csv", "who,what\nAda,engines\nGrace,compilers\n")
    found = results(cli.out("batch", path, "-m", "fast", "--wait", "-t",
                            "{who} likes {what} [[sim echo=1]]"))
    assert [row["text"].split(" [[")[0].strip() for row in found] == ["Ada likes engines",
                                                                     "Grace likes compilers"]


def test_the_same_batch_again_makes_no_new_jobs_but_another_name_does(cli):
    path = cli.path("in.ndjson", "\n".join(f'{{"prompt": "{unique()}"}}' for _ in range(20)))
    first = results(cli.out("batch", path, "-m", "fast"))
    again = results(cli.out("batch", path, "-m", "fast"))
    assert [row["id"] for row in first] == [row["id"] for row in again]
    other = results(cli.out("batch", path, "-m", "fast", "--name", "second"))
    assert not {row["id"] for row in first} & {row["id"] for row in other}


def test_what_was_submitted_before_is_counted_even_a_moment_later(cli):
    lines = [f'{{"prompt": "{unique()}"}}' for _ in range(20)]
    path = cli.path("in.ndjson", "\n".join(lines[:15]))
    assert "submitted before" not in cli.run("batch", path, "-m", "fast").stderr
    assert "15 of the jobs had been submitted before" in cli.run("batch", path, "-m", "fast").stderr
    more = cli.path("in.ndjson", "\n".join(lines))
    assert "15 of the jobs had been submitted before" in cli.run("batch", more, "-m", "fast", "--wait").stderr


def test_a_batch_survives_the_producer(stack, cli):
    path = cli.path("in.ndjson", "\n".join(
        json.dumps({"prompt": f"{unique()} [[sim tokens=5 delay_ms=300]]"}) for _ in range(200)))
    out = cli.path("out.ndjson")
    process = cli.start("batch", path, "-m", "fast", "-o", out)
    partial = out + ".partial"
    wait_until(lambda: os.path.exists(partial), 20, "results")
    stack.kill("producer-1")
    stack.restart("producer-1")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == DONE, errors
    with open(out, encoding="utf-8") as file:
        found = results(file.read())
    assert len(found) == 200 and len({row["id"] for row in found}) == 200


def test_interrupted_without_a_terminal_it_goes_on_later(cli, simulator):
    gate = unique("gate")
    prompts = [f"{unique()} [[sim tokens=5 after=1 hold={gate}]]" if i == 5 else unique()
               for i in range(30)]
    path = cli.path("in.ndjson", "\n".join(json.dumps({"prompt": text}) for text in prompts))
    out = cli.path("out.ndjson")
    process = cli.start("batch", path, "-m", "single", "-o", out)
    wait_until(lambda: simulator.holding(gate), 20, "the call that waits")
    process.send_signal(signal.SIGINT)
    stdout, errors = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED
    assert b"interrupted" in errors and b"\r" not in errors and ESCAPE.encode() not in errors + stdout
    assert not os.path.exists(out)
    simulator.release(gate)
    cli.run("batch", path, "-m", "single", "-o", out)
    with open(out, encoding="utf-8") as file:
        assert [row["line"] for row in results(file.read())] == list(range(1, 31))
    for text in prompts:
        assert len(simulator.calls(chat_of(text))) == 1, "a job was made twice"


def chat_of(text):
    return {"messages": [{"role": "user", "content": text}]}


def test_a_batch_without_a_server_ends_unreachable_or_refused(cli):
    path = cli.path("in.ndjson", '{"prompt": "x"}\n')
    cli.run("batch", path, "-m", "fast", expect=REFUSED, environment={"NIGHTSHIFT_API_KEY": "ns_x"})
    cli.run("batch", "/nonexistent", "-m", "fast", expect=USAGE)
    assert "unknown column" in cli.run("batch", cli.path("in.csv", "text\nx\n"), "-m", "fast",
                                       expect=USAGE).stderr


# --- administration -----------------------------------------------------------------------------


def test_tenants_and_keys(cli):
    tenant = unique()
    made = cli.out("tenants", "create", tenant, "--name", "A team", "--weight", "3")
    assert "whsec_" in made
    assert tenant in cli.out("tenants", "list")
    key = json.loads(cli.out("keys", "create", tenant, "--name", "ci", "--json"))
    environment = {"NIGHTSHIFT_API_KEY": key["key"]}
    cli.run("submit", "-m", "fast", "x", environment=environment)
    assert "ci" in cli.out("keys", "list", tenant)
    cli.run("tenants", "set", tenant, "--disable")
    wait_until(lambda: "tenant_disabled" in cli_errors(cli, environment), 5, "the tenant to be disabled")
    cli.run("tenants", "set", tenant, "--enable")
    cli.run("keys", "revoke", key["id"])
    wait_until(lambda: "invalid_key" in cli_errors(cli, environment), 5, "the key to be revoked")
    cli.run("tenants", "create", tenant, expect=REFUSED)
    cli.run("tenants", "set", tenant, expect=USAGE)


def cli_errors(cli, environment):
    done = subprocess.run([cli.program, "submit", "-m", "fast", "x"], capture_output=True, text=True,
                          env={**cli.environment, **environment}, check=False)
    return done.stderr


def test_the_state_of_the_system(cli):
    assert "normal" in cli.out("queues")
    assert json.loads(cli.out("workers", "--json"))["data"][0]["alive"] is True
    assert "main" in cli.out("providers")
    cli.run("pause", "--priority", "low")
    low = [row for row in csv.DictReader(io.StringIO(cli.out("queues", "--csv")))
           if row["priority"] == "low"]
    assert low[0]["paused"] == "true"
    cli.run("resume", "--priority", "low")
    cli.run("pause", expect=USAGE)
    cli.run("pause", "--provider", "nosuch", expect=REFUSED)


def test_webhook_endpoints_and_deliveries(cli, simulator):
    hook = unique("hook")
    endpoint = json.loads(cli.out("endpoints", "create", "default", simulator.hook_url(hook), "--json"))
    cli.run("endpoints", "test", "default", endpoint["id"])
    wait_until(lambda: simulator.deliveries(hook), 20, "the test event")
    rows = list(csv.DictReader(io.StringIO(cli.out("deliveries", "--endpoint", endpoint["id"], "--csv"))))
    assert rows[0]["type"] == "endpoint.test"
    cli.run("deliveries", "redeliver", rows[0]["id"])
    assert "whsec_" in cli.out("endpoints", "rotate", "default", endpoint["id"])
    cli.run("endpoints", "delete", "default", endpoint["id"])
    assert endpoint["id"] not in cli.out("endpoints", "list", "default")


def test_audit_is_exported_and_verified(cli, sql):
    done = cli.run("audit", "verify")
    assert done.stdout == "0\n" and "are whole" in done.stderr
    rows = results(cli.out("audit", "export"))
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    tenant = unique()
    cli.run("tenants", "create", tenant)
    one = results(cli.out("audit", "export", "--object", f"tenant:{tenant}"))
    assert [row["action"] for row in one] == ["tenant.create"]
    old = sql.value("SELECT actor FROM audit WHERE seq = %s", one[0]["seq"])
    sql.rows("UPDATE audit SET actor = 'key:somebody' WHERE seq = %s", one[0]["seq"])
    try:
        done = cli.run("audit", "verify", expect=FAILED)
        assert done.stdout == f"{one[0]['seq']}\n"
    finally:
        sql.rows("UPDATE audit SET actor = %s WHERE seq = %s", old, one[0]["seq"])


def test_limits_are_read_changed_and_taken_away(cli):
    tenant = unique()
    cli.run("tenants", "create", tenant)
    cli.run("limits", "set", tenant, "--requests-per-minute", "60", "--budget-day", "1.5")
    cli.run("limits", "set", tenant, "--workflow", "triage", "--max-concurrency", "2")
    document = json.loads(cli.out("limits", "get", tenant, "--json"))
    assert document["requests_per_minute"] == 60
    assert float(document["budget_usd"]["day"]) == 1.5
    assert document["workflows"]["triage"]["max_concurrency"] == 2
    shown = cli.out("limits", "get", tenant)
    assert "workflow triage" in shown and "$1.50" in shown
    cli.run("limits", "set", tenant, "--requests-per-minute", "none")
    assert json.loads(cli.out("limits", "get", tenant, "--json"))["requests_per_minute"] is None
    cli.run("limits", "set", tenant, "--requests-per-minute", "-1", expect=USAGE)
    cli.run("limits", "set", tenant, "--budget-day", "0.0000000001", expect=USAGE)
    cli.run("limits", "set", tenant, "--budget-day", "9000000.01", expect=USAGE)
    cli.run("limits", "set", tenant, "--time-zone", "Mars/Olympus", expect=REFUSED)
    cli.run("limits", "set", tenant, expect=USAGE)


def test_budgets_are_shown(cli):
    tenant = unique()
    cli.run("tenants", "create", tenant)
    cli.run("limits", "set", tenant, "--budget-day", "1.5")
    rows = list(csv.DictReader(io.StringIO(cli.out("budgets", tenant, "--csv"))))
    assert [(row["scope"], row["window"]) for row in rows] == [("tenant", "day")]
    assert float(rows[0]["limit_usd"]) == 1.5
    cli.run("budgets")


def test_usage_is_shown_in_tables_and_csv(cli, api):
    api.ended(cli.out("submit", "-m", "fast", "x", "--workflow", "billing"))
    wait_until(lambda: "billing" in cli.out("usage", "default", "--group-by", "workflow"), 30, "usage")
    rows = list(csv.DictReader(io.StringIO(cli.out("usage", "default", "-g", "workflow", "--csv"))))
    assert [row for row in rows if row["workflow"] == "billing"]
    assert json.loads(cli.out("usage", "--json"))["object"] == "list"
    cli.run("usage", "--group-by", "colour", expect=USAGE)


def test_a_call_of_unknown_cost_is_listed_and_resolved(cli, api, simulator):
    gate = unique("gate")
    job = cli.out("submit", "-m", "single", f"x [[sim tokens=9 after=2 hold={gate}]]")
    wait_until(lambda: simulator.holding(gate), 20, "the call")
    cli.run("cancel", job)
    call = api.ended(job)["calls"][0]
    assert call["state"] == "unknown"
    assert call["id"] in cli.out("usage", "default", "--unknown")
    cli.run("calls", "resolve", call["id"], "--cost", "0.000001")
    wait_until(lambda: api.job(job)["cost_usd"] == "0.000001000", 10, "the cost")
    cli.run("calls", "resolve", call["id"], expect=USAGE)


# --- what it says of itself ---------------------------------------------------------------------


def test_help_of_every_command_comes_from_the_table(cli):
    whole = cli.out("--help")
    names = re.findall(r"^  ([a-z]+(?: [a-z]+)?) {2,}", whole.split("Options")[0], re.M)
    assert {"submit", "batch", "limits set", "doctor", "audit verify"} <= set(names)
    for name in names:
        assert f"Usage: nightshift {name}" in cli.out(*name.split(), "--help")
        assert cli.out("help", *name.split()) == cli.out(*name.split(), "--help")
    assert "Exit status" in whole and "130" in whole


def test_the_man_page_is_clean_and_names_every_command(cli):
    page = cli.run("man").stdout
    assert page.startswith(".TH NIGHTSHIFT 1")
    assert "nightshift limits set" in page
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z"], input=page, text=True,
                              capture_output=True, check=False)
        assert done.returncode == 0 and done.stderr == ""


def test_bash_completes_commands_options_and_values(cli):
    script = cli.run("completion", "bash").stdout

    def complete(*words):
        test = f"{script}\nCOMP_WORDS=({' '.join(repr(word) for word in words)})\n" \
               f"COMP_CWORD={len(words) - 1}\n_nightshift\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        done = subprocess.run(["bash", "--norc", "--noprofile", "-c", test], capture_output=True,
                              text=True, check=True)
        assert done.stderr == ""
        return done.stdout.split()

    assert complete("nightshift", "sub") == ["submit"]
    assert complete("nightshift", "limits", "") == ["get", "set"]
    assert "--stream" in complete("nightshift", "submit", "--st")
    assert "--budget-day" in complete("nightshift", "limits", "set", "--b")
    assert complete("nightshift", "list", "--state", "f") == ["failed"]
    assert complete("nightshift", "completion", "") == ["bash", "zsh"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_takes_the_completion(cli):
    path = cli.path("_nightshift", cli.run("completion", "zsh").stdout)
    subprocess.run(["zsh", "-n", path], check=True)


def test_install_puts_everything_in_its_place(cli):
    target = cli.path("root")
    done = subprocess.run(["make", "--no-print-directory", "install", f"DESTDIR={target}",
                           "PREFIX=/usr"], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={name: value for name, value in os.environ.items()
                               if not name.startswith("MAKE") and name != "MFLAGS"}, timeout=170)
    assert done.returncode == 0, done.stderr
    for path in ("bin/nightshift", "share/man/man1/nightshift.1", "share/zsh/site-functions/_nightshift",
                 "share/bash-completion/completions/nightshift"):
        assert os.path.getsize(os.path.join(target, "usr", path)) > 1000


def test_nothing_in_a_pipe_has_escape_codes(cli, api):
    job = cli.out("submit", "-m", "fast", "x")
    api.ended(job)
    for words in (["list"], ["get", job], ["queues"], ["--help"], ["watch", job], ["doctor"]):
        done = subprocess.run([cli.program, *words], capture_output=True, check=False,
                              env={**cli.environment, "TERM": "xterm-256color"})
        assert ESCAPE.encode() not in done.stdout + done.stderr, words
        assert b"\r" not in done.stdout + done.stderr, words


def test_many_at_once(cli):
    workflow = unique("wf")
    failures = []

    def one():
        try:
            cli.run("submit", "-m", "fast", "x", "--workflow", workflow, "--wait")
        except AssertionError as error:
            failures.append(error)
    threads = [threading.Thread(target=one) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(json.loads(cli.out("list", "--workflow", workflow, "--json"))["data"]) == 10
