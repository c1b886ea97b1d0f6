# SPDX-License-Identifier: Apache-2.0
"""POST /v1/jobs/bulk: many jobs in one upload, answered line by line, in constant memory."""

import json
import socket
import threading
import uuid
from urllib.parse import urlsplit

import pytest

from testenv.api import chat, soon
from testenv.wait import wait_until


def line(**fields):
    return {"request": chat(tokens=1), "priority": "low", **fields}


def encoded(lines):
    return b"".join(item if isinstance(item, bytes) else json.dumps(item).encode() + b"\n" for item in lines)


def test_every_line_is_answered_in_order(api, simulator):
    lines = [line(workflow="bulk-order", metadata={"n": str(number)}) for number in range(200)]
    answers, summary = api.bulk(lines)

    assert summary == {"object": "bulk.summary", "accepted": 200, "rejected": 0}
    assert [answer["line"] for answer in answers] == list(range(1, 201))
    assert len({answer["id"] for answer in answers}) == 200
    for number in (0, 99, 199):
        job = api.ended(answers[number]["id"])
        assert job["metadata"] == {"n": str(number)} and job["state"] == "succeeded"


def test_a_broken_line_costs_only_itself(api):
    lines = [line(), b"not json\n", line(priority="urgent"), b"\n", line(), {"request": chat(model="nope")},
             b'{"request": {"model": "fast", "mess\n', line()]
    answers, summary = api.bulk(lines)

    assert summary == {"object": "bulk.summary", "accepted": 3, "rejected": 4}
    assert [answer["line"] for answer in answers] == [1, 2, 3, 5, 6, 7, 8]
    codes = {answer["line"]: answer.get("error", {}).get("code") for answer in answers}
    assert codes == {1: None, 2: "invalid_json", 3: "invalid_value", 5: None, 6: "model_not_found",
                     7: "invalid_json", 8: None}
    for answer in answers:
        if "error" in answer:
            assert set(answer["error"]) == {"message", "type", "param", "code"}


def test_the_last_line_needs_no_newline(api):
    answers, summary = api.bulk([line(), json.dumps(line()).encode()])
    assert len(answers) == 2 and summary["accepted"] == 2


def test_idempotency_keys_of_lines(api):
    key = str(uuid.uuid4())
    given = line(idempotency_key=key)
    answers, summary = api.bulk([given, given, line(idempotency_key=key)])

    assert answers[0]["id"] == answers[1]["id"]
    assert answers[2]["error"]["code"] == "idempotency_mismatch"
    assert (summary["accepted"], summary["rejected"]) == (2, 1)
    again, _ = api.bulk([given])
    assert again[0]["id"] == answers[0]["id"]


def test_replays_are_told_to_who_asks(api):
    given = line(idempotency_key=str(uuid.uuid4()))

    def told(parameters, lines):
        answer = api.client.post("/v1/jobs/bulk", content=encoded(lines), params=parameters,
                                 headers={"content-type": "application/x-ndjson"})
        assert answer.status_code == 200, answer.text
        rows = [json.loads(row) for row in answer.text.splitlines()]
        assert rows[-1] == {"object": "bulk.summary", "accepted": len(lines), "rejected": 0}
        return rows[:-1]

    rows = told({"include": "replayed"}, [given, line(), given])
    assert [row["replayed"] for row in rows] == [False, False, True]
    assert [row["replayed"] for row in told({"include": "replayed"}, [given])] == [True]
    assert told({}, [given]) == [{"line": 1, "id": rows[0]["id"]}]
    for parameters in ({"include": "request"}, {"includes": "replayed"}, {"include": ["replayed"] * 2}):
        answer = api.client.post("/v1/jobs/bulk", content=encoded([given]), params=parameters,
                                 headers={"content-type": "application/x-ndjson"})
        assert answer.status_code == 400 and answer.json()["error"]["param"] in parameters


def test_a_line_over_the_body_limit_is_its_own_error(api):
    huge = line(request=chat(text="x" * (5 << 20)))
    answers, summary = api.bulk([line(), huge, line()])
    assert answers[1]["error"]["code"] == "too_large"
    assert (summary["accepted"], summary["rejected"]) == (2, 1)


def test_another_content_type_is_415(api):
    answer = api.client.post("/v1/jobs/bulk", content=encoded([line()]),
                             headers={"content-type": "application/json"})
    assert answer.status_code == 415


def test_an_upload_that_breaks_off_keeps_what_was_accepted(api, sql):
    workflow = f"cut-{uuid.uuid4().hex}"
    data = encoded([line(workflow=workflow) for _ in range(100)])
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as peer:
        peer.sendall(f"POST /v1/jobs/bulk HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.key}\r\n"
                     "content-type: application/x-ndjson\r\ncontent-length: 10000000\r\n\r\n".encode() + data)
        wait_until(lambda: sql.value("SELECT count(*) FROM jobs WHERE workflow = %s", workflow) == 100, 10)
        peer.shutdown(socket.SHUT_WR)
        got = b""
        while chunk := peer.recv(65536):
            got += chunk
    told = [json.loads(part) for part in got.decode().splitlines() if part.startswith("{")]
    assert len([item for item in told if "id" in item]) == 100
    assert told[-1]["object"] == "bulk.error" and told[-1]["error"]["code"] == "incomplete"
    assert sql.value("SELECT count(*) FROM jobs WHERE workflow = %s", workflow) == 100


def test_an_upload_without_a_length_is_411(api):
    """Neither a Content-Length nor chunks: no empty upload, but a client's mistake."""
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as peer:
        peer.sendall(f"POST /v1/jobs/bulk HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.key}\r\n"
                     "content-type: application/x-ndjson\r\nconnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: peer.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 411") and "length_required" in answer, answer


def test_answers_stream_while_the_upload_goes_on(api):
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as peer:
        peer.sendall(f"POST /v1/jobs/bulk HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.key}\r\n"
                     "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        part = encoded([line() for _ in range(50)])
        peer.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        got = b""
        while got.count(b'"id"') < 50:
            chunk = peer.recv(65536)
            assert chunk, got[-500:]
            got += chunk
        part = encoded([line()])
        peer.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(part), part))
        while b"bulk.summary" not in got:
            chunk = peer.recv(65536)
            assert chunk, got[-500:]
            got += chunk
    assert b'"accepted":51' in got.replace(b" ", b"")


def memory_kib(pids):
    """What they hold of their own.  Of daemons, which dump no core, smaps is only root's."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            total += next(int(row.split()[1]) for row in file if row.startswith("RssAnon:"))
    return total


@pytest.mark.parametrize("count", [5000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_large_upload_is_taken_in_constant_memory(stack, api, sql, count):
    """The client sends all before it reads anything; the answers wait in the producer, bounded."""
    workflow = f"large-{uuid.uuid4().hex}"
    before = memory_kib(stack.children("producer-1"))
    # Far away in time: this is about the upload, not the calls.
    row = {"request": chat(text="y" * 1500), "priority": "low", "workflow": workflow}
    row["run_at"] = soon(hours=1)
    data = encoded([row]) * count
    peak = [before]
    done = threading.Event()

    def watch():
        while not done.wait(0.1):
            peak.append(memory_kib(stack.children("producer-1")))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answer = api.client.post("/v1/jobs/bulk", content=data, timeout=170,
                                 headers={"content-type": "application/x-ndjson"})
    finally:
        done.set()
        watcher.join()
    lines = answer.text.splitlines()

    assert answer.status_code == 200 and len(lines) == count + 1
    assert json.loads(lines[-1]) == {"object": "bulk.summary", "accepted": count, "rejected": 0}
    assert sql.value("SELECT count(*) FROM jobs WHERE workflow = %s", workflow) == count
    allowed = 32 if "asan" not in " ".join(stack.options) else 160  # freed memory rests in quarantine
    assert max(peak) - before < allowed * 1024, f"{before} KiB grew to {max(peak)} KiB"
    sql.rows("UPDATE queue SET deadline = now() WHERE tenant = 'default' AND job IN "
             "(SELECT id FROM jobs WHERE workflow = %s)", workflow)


def test_more_than_the_allowed_lines_end_with_an_error_that_says_so(stack, api):
    """Blank lines count: 100,000 and one."""
    data = encoded([line()]) + b"\n" * 100_000
    answer = api.client.post("/v1/jobs/bulk", content=data, timeout=60,
                             headers={"content-type": "application/x-ndjson"})
    lines = [json.loads(part) for part in answer.text.splitlines()]
    assert lines[0]["line"] == 1 and "id" in lines[0]
    assert lines[-1]["object"] == "bulk.error" and lines[-1]["error"]["code"] == "too_large"
