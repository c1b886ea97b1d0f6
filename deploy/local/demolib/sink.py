# SPDX-License-Identifier: Apache-2.0
"""Where the demo's webhooks arrive: a small HTTP server in a thread of the demo."""

import collections
import http.server
import threading
import time

Delivery = collections.namedtuple("Delivery", "at path headers body status")

BUSY_ONCE = "/busy-once"  # answers 503 to the first try of each webhook
ENDPOINT = "/endpoint"


class Sink:
    def __init__(self):
        self.lock = threading.Lock()
        self.deliveries = []
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.sink = self
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"

    def take(self, path, headers, body):
        """Keeps a delivery; the status to answer."""
        with self.lock:
            name = headers.get("webhook-id")
            is_first = all(d.headers.get("webhook-id") != name for d in self.deliveries)
            status = 503 if path == BUSY_ONCE and is_first else 204
            self.deliveries.append(Delivery(time.time(), path, headers, body, status))
        return status

    def all(self, path=None):
        with self.lock:
            return [d for d in self.deliveries if path in (None, d.path)]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = self.server.sink.take(self.path, headers, body)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Silent: the demo tells what arrived."""
