# SPDX-License-Identifier: Apache-2.0
"""GET /v1/jobs/{id}/events: the whole text, once, in order, from anywhere, at any time."""

import hashlib
import random
import socket
import threading
from urllib.parse import urlsplit

import pytest

from testenv.api import chat, cursors_rise, parse_events, text_of
from testenv.resume import read_with_drops
from testenv.wait import Stopwatch, wait_until


def names(events):
    return [event.name for event in events]


def test_a_job_is_told_from_queued_to_its_end(api, simulator):
    # A test before may have had the first target closed for a moment.
    wait_until(lambda: api.run(chat(tokens=1))["calls"][0]["provider"] == "main", 20, "the first target to be open")
    request = chat(tokens=30, rate=60)
    job = api.submit(request)
    stream = api.events(job["id"])
    events = list(stream)
    ended = api.ended(job["id"])

    assert stream.headers["content-type"].startswith("text/event-stream")
    assert names(events)[:2] == ["job.queued", "job.started"]
    assert events[1].data["attempt"] == 1
    assert (events[1].data["provider"], events[1].data["model"]) == ("main", "gpt-4o-mini")
    assert set(names(events)[2:-1]) == {"output.delta"}
    assert names(events)[-1] == "job.succeeded"
    assert events[-1].data == ended
    assert text_of(events) == ended["result"]["text"]
    cursors_rise(events)


def test_deltas_come_while_the_provider_still_speaks(api, simulator):
    job = api.submit(chat(tokens=20, after=5, hold="stream-live"))
    with api.events(job["id"]) as stream:
        seen = []
        for event in stream:
            seen.append(event)
            if event.name == "output.delta":
                break
        assert simulator.holding("stream-live") == 1
        simulator.release("stream-live")
        seen += list(stream)
    assert text_of(seen) == api.ended(job["id"])["result"]["text"]


def test_reading_later_gives_the_same_text(api, other_producer):
    job = api.run(chat(tokens=50, unicode=1))
    for reader in (api, other_producer):
        events = reader.all_events(job["id"])
        assert text_of(events) == job["result"]["text"]
        assert names(events)[-1] == "job.succeeded"
        cursors_rise(events)


def test_resuming_at_every_cursor_gives_the_rest(api, other_producer):
    """Live cursors, each at the other producer after the end, too."""
    job = api.submit(chat(tokens=25, rate=50, unicode=1))
    events = api.all_events(job["id"])
    whole = text_of(events)
    api.ended(job["id"])

    for number, event in enumerate(events[:-1]):
        for reader in (api, other_producer):
            rest = reader.all_events(job["id"], last_event_id=event.cursor)
            assert all(later.cursor > event.cursor for later in rest)
            assert text_of(events[:number + 1] + rest, attempt=1) == whole
            assert names(rest)[-1] == "job.succeeded"


def test_a_stream_that_is_dropped_and_resumed_at_random_misses_nothing(stack, api):
    """Twenty drops while the text is coming, from producer to producer; on a busy machine, of several texts."""
    dice, drops = random.Random(4), 0
    while drops < 20:
        job = api.submit(chat(tokens=600, rate=100, unicode=1))
        seen, dropped = read_with_drops(stack, job["id"], dice, 20)
        assert dropped > 0
        drops += dropped
        cursors_rise(seen)
        assert names(seen).count("job.started") == 1
        assert text_of(seen) == api.ended(job["id"])["result"]["text"]


def test_after_in_the_query_works_and_loses_to_the_header(api):
    job = api.run(chat(tokens=3))
    events = api.all_events(job["id"])
    by_query = api.all_events(job["id"], after=events[0].cursor)
    by_both = api.all_events(job["id"], after=events[0].cursor, last_event_id=events[-2].cursor)

    assert names(by_query) == names(events)[1:]
    assert names(by_both) == names(events)[-1:]


def test_after_the_last_event_the_stream_ends_at_once(api):
    job = api.run(chat(tokens=3))
    events = api.all_events(job["id"])
    watch = Stopwatch()
    assert api.all_events(job["id"], last_event_id=events[-1].cursor) == []
    assert watch.seconds < 3


@pytest.mark.parametrize("cursor", ["x", "0", "f" * 28, "zz" * 14, "0" * 27])
def test_a_cursor_that_the_job_never_had_is_a_400(api, cursor):
    job = api.run(chat(tokens=2))
    answer = api.client.get(f"/v1/jobs/{job['id']}/events", headers={"last-event-id": cursor})
    assert answer.status_code == 400, answer.text


def test_a_cut_attempt_is_declared_void_and_the_next_announced(api, simulator):
    request = chat(tokens=20, at={"main": {"fault": "cut_line", "after": 8}})
    job = api.submit(request)
    events = api.all_events(job["id"])
    ended = api.ended(job["id"])

    assert names(events)[-1] == "job.succeeded"
    superseded = [event for event in events if event.name == "attempt.superseded"]
    assert len(superseded) == 1 and superseded[0].data["attempt"] == 1
    assert superseded[0].data["valid_bytes"] == len(text_of(events, attempt=1).encode())
    assert text_of(events, attempt=2) == ended["result"]["text"]
    started = [event.data["provider"] for event in events if event.name == "job.started"]
    assert started == ["main", "spare"]
    cursors_rise(events)


def test_tool_calls_are_told_as_they_come(api):
    request = chat(fault="two_tools")
    request["tools"] = [{"type": "function", "function": {"name": name, "parameters": {}}}
                        for name in ("first", "second")]
    job = api.submit(request)
    events = api.all_events(job["id"])
    ended = api.ended(job["id"])
    deltas = [event.data for event in events if event.name == "output.tool_delta"]

    assert ended["state"] == "succeeded" and deltas
    for index, call in enumerate(ended["result"]["response"]["choices"][0]["message"]["tool_calls"]):
        mine = [delta for delta in deltas if delta["index"] == index]
        assert "".join(delta.get("arguments") or "" for delta in mine) == call["function"]["arguments"]
        assert next(delta["name"] for delta in mine if delta.get("name")) == call["function"]["name"]


def test_the_end_of_a_cancelled_job_is_told(api, simulator):
    job = api.submit(chat(tokens=30, after=5, hold="stream-cancel"))
    with api.events(job["id"]) as stream:
        seen = []
        for event in stream:
            seen.append(event)
            if event.name == "output.delta" and len(seen) == 3:
                api.cancel(job["id"])
    assert seen[-1].name == "job.cancelled"
    assert seen[-1].data["partial"]["text"] == text_of(seen, attempt=1)
    simulator.release("stream-cancel")


def test_many_readers_of_one_job_all_get_it_whole(stack, simulator):
    api = stack.api()
    job = api.submit(chat(tokens=120, rate=60))
    texts = []

    def read(number):
        texts.append(text_of(stack.api(producer=number % 2).all_events(job["id"])))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [api.ended(job["id"])["result"]["text"]] * 20


def test_a_reader_that_never_reads_is_dropped_and_may_resume(api, simulator):
    """A few MB of text into a socket whose window is small: the producer does not keep it all."""
    request = chat(tokens=200000, per_chunk=200)
    job = api.submit(request)
    address = urlsplit(api.url)
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect((address.hostname, address.port))
        peer.sendall(f"GET /v1/jobs/{job['id']}/events HTTP/1.1\r\nhost: x\r\n"
                     f"authorization: Bearer {api.key}\r\n\r\n".encode())
        ended = api.ended(job["id"], timeout_s=120)
    assert ended["state"] == "succeeded"
    (call,) = simulator.ended_calls(request)
    assert hashlib.sha256(ended["result"]["text"].encode()).hexdigest() == call["text_sha256"]
    assert text_of(api.all_events(job["id"])) == ended["result"]["text"]


def test_live_deltas_lost_by_redis_are_read_from_postgres(stack, api, simulator):
    """Redis forgets every subscription in the middle: the text is whole all the same."""
    import redis
    job = api.submit(chat(tokens=150, rate=50))
    seen = []
    with api.events(job["id"]) as stream:
        for event in stream:
            seen.append(event)
            if len(seen) in (10, 30):
                redis.Redis.from_url(stack.environment["REDIS_URL"]).client_kill_filter(_type="pubsub")
    cursors_rise(seen)
    assert names(seen)[-1] == "job.succeeded"
    assert text_of(seen) == api.ended(job["id"])["result"]["text"]


def test_comments_keep_a_quiet_stream_awake(api, simulator):
    """A comment line every 15 s."""
    job = api.submit(chat(tokens=3, after=1, hold="stream-quiet"))
    got = b""
    watch = Stopwatch()
    with api.events(job["id"], timeout_s=25) as stream:
        for chunk in stream.response.iter_raw():
            got += chunk
            if b"\n:" in got or got.startswith(b":"):
                break
    assert watch.seconds < 25
    assert list(parse_events([got]))
    simulator.release("stream-quiet")
    wait_until(lambda: api.job(job["id"])["state"] == "succeeded", 15)
