# SPDX-License-Identifier: Apache-2.0
"""A small client of the HTTP API, with nothing but the standard library."""

import datetime
import http.client
import json
import time
import urllib.parse

from .check import Missed

TERMINAL = ("succeeded", "failed", "cancelled", "expired")


class Event:
    """One server-sent event."""

    def __init__(self, name, cursor, data):
        self.name = name
        self.cursor = cursor
        self.data = data
        self.at = time.monotonic()


class Api:
    """One kept connection, for one thread."""

    def __init__(self, url, key):
        self.url = urllib.parse.urlsplit(url)
        self.key = key
        self.connection = None

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def call(self, method, path, body=None, headers=None, timeout_s=15, expected=(200, 201, 202)):
        """(status, headers, object or None).  Any other status is a Missed."""
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        fields = {"authorization": f"Bearer {self.key}"}
        if data is not None:
            fields["content-type"] = "application/json"
        answer, text = self.exchange(method, path, data, {**fields, **(headers or {})}, timeout_s)
        if answer.status not in expected:
            raise Missed(f"{method} {path} to be answered {' or '.join(map(str, expected))}",
                         f"{answer.status} {text[:500].decode(errors='replace')}", "producer-1")
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, answer.headers, json.loads(text) if text and is_json else text

    def exchange(self, method, path, data, headers, timeout_s):
        """A kept connection may have been closed meanwhile: then once more, if that is harmless."""
        tries = 2 if self.connection and method == "GET" else 1
        while True:
            tries -= 1
            try:
                if not self.connection:
                    self.connection = http.client.HTTPConnection(self.url.netloc, timeout=timeout_s)
                self.connection.timeout = timeout_s
                if self.connection.sock:
                    self.connection.sock.settimeout(timeout_s)
                self.connection.request(method, path, data, headers)
                answer = self.connection.getresponse()
                return answer, answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if not tries:
                    raise Missed(f"{method} {path} to be answered", f"{type(error).__name__}: {error}",
                                 "producer-1") from error

    def submit(self, body):
        return self.call("POST", "/v1/jobs", body, expected=(202,))[2]

    def job(self, job):
        return self.call("GET", f"/v1/jobs/{job}")[2]

    def cancel(self, job):
        return self.call("POST", f"/v1/jobs/{job}/cancel")[2]

    def bulk(self, lines):
        """Sends all lines, then reads the answers: one object a line, the summary last."""
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        text = self.call("POST", "/v1/jobs/bulk", data, {"content-type": "application/x-ndjson"},
                         timeout_s=30, expected=(200,))[2]
        return [json.loads(line) for line in text.splitlines() if line.strip()]

    def list(self, **filters):
        return self.call("GET", "/v1/jobs?" + urllib.parse.urlencode(filters))[2]

    def events(self, job, timeout_s, idle_s=20, after=None):
        """Yields the events of a job until the server ends the stream; Missed if that takes too long.
        On a connection of its own, so that the caller may cancel meanwhile."""
        deadline = time.monotonic() + timeout_s
        connection = http.client.HTTPConnection(self.url.netloc, timeout=min(idle_s, timeout_s))
        headers = {"authorization": f"Bearer {self.key}", "accept": "text/event-stream"}
        if after:
            headers["last-event-id"] = after
        try:
            connection.request("GET", f"/v1/jobs/{job}/events", headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise Missed("the job's events", f"{answer.status} {answer.read(500)!r}", "producer-1")
            for event in read_events(answer):
                yield event
                if time.monotonic() > deadline:
                    raise Missed(f"the job to end within {timeout_s:g} s", f"still {event.name}",
                                 "worker-1")
        except (OSError, http.client.HTTPException) as error:
            raise Missed(f"events of {job}", f"{type(error).__name__}: {error}",
                         "producer-1") from error
        finally:
            connection.close()


def read_events(answer):
    name, cursor, data = "message", None, []
    for raw in answer:
        line = raw.decode().rstrip("\r\n")
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if not line:
            if data:
                yield Event(name, cursor, json.loads("\n".join(data)))
            name, data = "message", []
        elif field == "event":
            name = value
        elif field == "id":
            cursor = value
        elif field == "data":
            data.append(value)


def moment(text):
    """Seconds since the epoch of an RFC 3339 time of the API, or None."""
    if not text:
        return None
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
