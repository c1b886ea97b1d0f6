# SPDX-License-Identifier: Apache-2.0
"""A client of the HTTP API, and the requests that tests submit."""

import json
import time
import uuid
from datetime import datetime, timedelta, timezone

import httpx

from .wait import NotYet

TERMINAL = ("succeeded", "failed", "cancelled", "expired")


def chat(text=None, model="fast", at=None, **knobs):
    """A request whose prompt is unique; knobs go into the simulator's marker.  `extra` markers for
    one provider: at={"main": {"status": 429}}."""
    markers = [" ".join(f"{name}={value}" for name, value in knobs.items())] if knobs else []
    for provider, wishes in (at or {}).items():
        markers.append(f"at={provider} " + " ".join(f"{name}={value}" for name, value in wishes.items()))
    content = " ".join([text or f"prompt {uuid.uuid4()}", *(f"[[sim {marker}]]" for marker in markers)])
    return {"model": model, "messages": [{"role": "user", "content": content}]}


def soon(**ahead):
    """RFC 3339, so far from now: soon(hours=1)."""
    moment = datetime.now(timezone.utc) + timedelta(**ahead)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


class Event:
    """One server-sent event."""

    def __init__(self, name, cursor, data):
        self.name = name
        self.cursor = cursor
        self.data = data
        self.at = time.monotonic()

    def __repr__(self):
        return f"<{self.name} {self.cursor} {str(self.data)[:120]}>"


def parse_events(chunks):
    """Events out of the bytes of an event stream; comments are passed over."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        while b"\n\n" in rest:
            block, rest = rest.split(b"\n\n", 1)
            fields = {}
            for line in block.decode().split("\n"):
                name, _, value = line.partition(":")
                if name:
                    fields.setdefault(name, []).append(value.removeprefix(" "))
            if "data" in fields:
                yield Event(fields.get("event", ["message"])[0], fields.get("id", [None])[0],
                            json.loads("\n".join(fields["data"])))


class EventStream:
    """A stream that is open; iterate over it, also in several goes, close it at any time."""

    def __init__(self, client, response):
        self.client = client
        self.response = response
        self.headers = response.headers
        self.events = parse_events(response.iter_raw())

    def __iter__(self):
        return self.events

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.response.close()
        self.client.close()


class Api:
    def __init__(self, url, key, timeout_s=75):
        self.url = url
        self.key = key
        self.client = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False,
                                   headers={"authorization": f"Bearer {key}"} if key else {})

    def request(self, method, path, **options):
        return self.client.request(method, path, **options)

    def get_json(self, path, expect=200, **parameters):
        answer = self.client.get(path, params=parameters)
        assert answer.status_code == expect, f"GET {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def post_json(self, path, body=None, expect=200, headers=None):
        answer = self.client.post(path, json=body, headers=headers) if body is not None else \
            self.client.post(path, headers=headers)
        assert answer.status_code == expect, f"POST {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    # --- jobs -----------------------------------------------------------------------------------

    def submit(self, request=None, expect=202, idempotency_key=None, **fields):
        """The submitted job."""
        headers = {"idempotency-key": idempotency_key} if idempotency_key else None
        return self.post_json("/v1/jobs", {"request": request or chat(), **fields}, expect, headers)

    def refused(self, body, status=400, headers=None, path="/v1/jobs"):
        """The error object of a submit that is refused."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.client.post(path, content=content,
                                  headers={"content-type": "application/json", **(headers or {})})
        assert answer.status_code == status, f"{answer.status_code} {answer.text[:500]}"
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert answer.headers["x-request-id"]
        return error

    def job(self, job, **parameters):
        return self.get_json(f"/v1/jobs/{job}", **parameters)

    def ended(self, job, timeout_s=60):
        """The job when it is terminal."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            now = self.job(job, wait=max(0, min(20, int(left))))
            if now["state"] in TERMINAL:
                return now
            if left <= 0:
                raise NotYet(f"{job} is {now['state']} after {timeout_s} s: "
                             f"{ {k: now[k] for k in ('waiting', 'attempts', 'calls', 'error')} }")

    def run(self, request=None, **fields):
        """Submits and waits for the end."""
        return self.ended(self.submit(request, **fields)["id"])

    def cancel(self, job):
        return self.post_json(f"/v1/jobs/{job}/cancel")

    def events(self, job, after=None, last_event_id=None, expect=200, timeout_s=60):
        """An open stream (a connection of its own)."""
        client = httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False)
        headers = {"authorization": f"Bearer {self.key}"}
        if last_event_id is not None:
            headers["last-event-id"] = last_event_id
        request = client.build_request("GET", f"/v1/jobs/{job}/events", headers=headers,
                                       params={"after": after} if after is not None else None)
        response = client.send(request, stream=True)
        if response.status_code != expect:
            response.read()
            client.close()
            raise AssertionError(f"events: {response.status_code} {response.text[:500]}")
        return EventStream(client, response)

    def all_events(self, job, **options):
        """Every event until the server ends the stream."""
        with self.events(job, **options) as stream:
            return list(stream)

    def bulk(self, lines, timeout_s=300):
        """(answers, last line) of a bulk of objects or raw bytes."""
        content = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
                           for line in lines)
        answer = self.client.post("/v1/jobs/bulk", content=content, timeout=timeout_s,
                                  headers={"content-type": "application/x-ndjson"})
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:500]}"
        objects = [json.loads(line) for line in answer.text.splitlines()]
        return objects[:-1], objects[-1]


def text_of(events, attempt=None):
    """The deltas of one attempt (the last one by default), joined; offsets are checked."""
    deltas = [event.data for event in events if event.name == "output.delta"]
    if attempt is None:
        attempt = deltas[-1]["attempt"] if deltas else 0
    text = b""
    for delta in deltas:
        if delta["attempt"] == attempt:
            assert delta["offset"] == len(text), f"gap or repeat at byte {len(text)}: {delta}"
            text += delta["text"].encode()
    return text.decode()


def cursors_rise(events):
    cursors = [event.cursor for event in events]
    assert all(cursors), "an event without a cursor"
    assert len({len(cursor) for cursor in cursors}) <= 1, "cursors differ in width"
    assert cursors == sorted(cursors), "a cursor went down"
