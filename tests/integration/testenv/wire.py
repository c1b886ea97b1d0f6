# SPDX-License-Identifier: Apache-2.0
"""Bytes to a server and the answers that come back, where a proper HTTP client would refuse to send."""

import json
import socket
from urllib.parse import urlsplit


class Answer:
    """One answer as it stood on the wire."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self):
        return f"<{self.status} {self.body[:120]!r}>"

    def error(self):
        """The error object; an AssertionError when the answer is not one as promised."""
        assert self.headers.get("x-request-id"), f"no x-request-id: {self.headers}"
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        return error


def _chunks(data):
    """(body, rest) of a chunked body, None when it is cut."""
    body = b""
    while True:
        line, mark, data = data.partition(b"\r\n")
        if not mark:
            return None
        size = int(line.split(b";")[0], 16)
        if len(data) < size + 2:
            return None
        body, data = body + data[:size], data[size + 2:]
        if size == 0:
            return body, data


def parse_answers(data):
    """(answers, what is left over) of everything a server said.  100 Continue is passed over."""
    answers = []
    while data:
        head, mark, rest = data.partition(b"\r\n\r\n")
        if not mark or not head.startswith(b"HTTP/1.1 "):
            break
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split(" ")[1])
        if status == 100:
            data = rest
            continue
        if headers.get("transfer-encoding") == "chunked":
            read = _chunks(rest)
            if not read:
                break
            body, data = read
        else:
            length = int(headers.get("content-length", 0))
            if len(rest) < length:
                break
            body, data = rest[:length], rest[length:]
        answers.append(Answer(status, headers, body))
    return answers, data


class Wire:
    """One connection.  What the peer does to it (a reset, a close) is no exception but an outcome."""

    def __init__(self, url, timeout_s=15, receive_buffer=None):
        address = urlsplit(url)
        self.peer = socket.socket()
        if receive_buffer:
            self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.peer.settimeout(timeout_s)
        self.peer.connect((address.hostname, address.port))
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.was_reset = False
        self.got = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.peer.close()

    def send(self, data):
        """False when the peer is gone."""
        try:
            self.peer.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            self.was_reset = True
            return False

    def half_close(self):
        try:
            self.peer.shutdown(socket.SHUT_WR)
        except OSError:
            self.was_reset = True

    def reset(self):
        """Closes with a reset instead of a FIN."""
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.peer.close()

    def read_to_end(self):
        """All answers until the peer closes; TimeoutError when it does not."""
        try:
            while chunk := self.peer.recv(1 << 16):
                self.got += chunk
        except ConnectionResetError:
            self.was_reset = True
        answers, rest = parse_answers(self.got)
        assert not rest or self.was_reset, f"half an answer: {rest[:200]!r}"
        return answers


def exchange(url, *parts, timeout_s=15):
    """Sends the parts one by one and reads until the peer closes; (answers, whether it was reset)."""
    with Wire(url, timeout_s) as wire:
        for part in parts:
            if not wire.send(part):
                break
        return wire.read_to_end(), wire.was_reset
