# SPDX-License-Identifier: Apache-2.0
"""The table of hostile HTTP exchanges that test_hostile_http.py plays: bytes, and what must come back.

Each ends with a request that must never be understood as one: `smuggled`, a good submit of a job.  Where
the framing is refused, it stands behind the refused request; where the framing is good but looks odd, it
is hidden in the body and a harmless request comes after it, which shows that the connection is in step.
"""

import json

READY = b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
TOKEN_BREAKERS = b"()<>@,;\\\"/[]?={} \t\x00\x01\x0b\x0c\x1f\x7f\x80\xff"
CONTROLS = [byte for byte in range(32) if byte not in (9, 10, 13)] + [127]


class Case:
    """parts are sent one after the other, then everything is read until the server closes."""

    def __init__(self, name, *parts, expect=(400,), may_reset=False):
        self.name = name
        self.parts = parts
        self.expect = expect  # the status of each answer; a set stands for any of them
        self.may_reset = may_reset  # the answer may get lost: more was sent than was read

    def __repr__(self):
        return self.name


class Table:
    def __init__(self, key, workflow):
        self.auth = b"authorization: Bearer " + key.encode()
        body = json.dumps({"workflow": workflow, "request": {
            "model": "fast", "messages": [{"role": "user", "content": "smuggled"}]}}).encode()
        self.smuggled = self.submit(b"content-length: %d" % len(body), body)
        # Taken as a body, it is a job of a model that is not there: 404, so that 400 means the framing.
        self.body = b'{"request":{"model":"nope","messages":[{"role":"user","content":"x"}]}}'

    def submit(self, framing, body=b"", auth=True, version=b"1.1"):
        lines = [b"POST /v1/jobs HTTP/" + version, b"host: x", b"content-type: application/json", framing]
        if auth:
            lines.append(self.auth)
        return b"\r\n".join(line for line in lines if line) + b"\r\n\r\n" + body

    def refused(self, name, data, expect=400):
        """One answer, then the connection closes, whatever follows."""
        return Case(name, data + self.smuggled, expect=(expect,))

    def cases(self):
        families = (self.request_lines, self.targets, self.line_ends, self.names, self.values, self.hosts,
                    self.lengths, self.codings, self.both, self.chunks, self.trailers, self.hidden,
                    self.pipelines, self.floods, self.protocols, self.cut_off)
        cases = [case for family in families for case in family()]
        assert len({case.name for case in cases}) == len(cases)
        return cases

    # --- the request line -------------------------------------------------------------------------

    def request_lines(self):
        syntax = [b"GET /healthz", b"GET  /healthz HTTP/1.1", b"GET /healthz  HTTP/1.1", b"GET\t/healthz\tHTTP/1.1",
                  b" GET /healthz HTTP/1.1", b"GET /healthz HTTP/1.1 ", b"GET /healthz HTTP/1.1\t", b"GET /healthz HTTP/1",
                  b"GET /healthz HTTP/1.", b"GET /healthz HTTP/.1", b"GET /healthz HTTP/1.10", b"GET /healthz HTTP/01.1",
                  b"GET /healthz HTTP/1,1", b"GET /healthz HTTP/1.x", b"GET /healthz http/1.1", b"GET /healthz Http/1.1",
                  b"GET /healthz HTTPS/1.1", b"GET /healthz HTTP 1.1", b"GET /healthz HTTP/-1.1", b"GET /healthz ICY/1.1",
                  b"GET /health z HTTP/1.1", b"GET HTTP/1.1", b"GET", b"HTTP/1.1 200 OK", b"/healthz GET HTTP/1.1",
                  b"GE(T /healthz HTTP/1.1", b"G@T /healthz HTTP/1.1", b'"GET" /healthz HTTP/1.1', b"G\x00T /healthz HTTP/1.1",
                  b"G\xc3\x89T /healthz HTTP/1.1", b"A" * 33 + b" /healthz HTTP/1.1", b"GET /healthz\x00 HTTP/1.1",
                  b"GET /healthz HTTP/1.1\x00", b"\xef\xbb\xbfGET /healthz HTTP/1.1", b"\x00GET /healthz HTTP/1.1"]
        for number, line in enumerate(syntax):
            yield self.refused(f"request line {number} {line[:40]!r}", line + b"\r\nhost: x\r\n\r\n")
        for version in (b"0.9", b"1.2", b"1.9", b"2.0", b"3.0", b"9.9", b"0.0"):
            yield self.refused(f"version {version!r}", b"GET /healthz HTTP/" + version + b"\r\nhost: x\r\n\r\n", 505)
        for method in (b"get", b"BREW", b"GETT", b"G", b"CONNECT"):
            yield self.refused(f"method {method!r}", method + b" /healthz HTTP/1.1\r\nhost: x\r\n\r\n", {400, 501})
        yield self.refused("two empty lines first", b"\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        yield self.refused("a bare LF first", b"\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")

    def targets(self):
        for target in (b"healthz", b"../healthz", b"http:///healthz", b"http://", b"ftp://x/healthz", b"//", b"/#healthz",
                       b"/healthz#x", b"/\xc3\xa9", b"/\x01", b"/\x7f", b"/%", b"/%0", b"/%zz", b"/%00", b"/%ff",
                       b"/%c0%ae", b"/%ed%a0%80", b"javascript:alert(1)", b"\\healthz", b"file:///etc/passwd"):
            expect = {404} if target == b"//" else {400}
            data = b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            yield Case(f"target {target!r}", data, expect=(expect,))
        for target in (b"/v1/jobs/..%2f..%2fadmin%2fv1%2ftenants", b"/v1/../admin/v1/tenants", b"/v1//jobs", b"/v1/jobs/",
                       b"/v1/jobs/%2e%2e", b"/v1/jobs;x=1", b"/V1/JOBS", b"/v1/jobs/job_%2e%2e/events",
                       b"/%76%31/jobs/\xc3".replace(b"\xc3", b"%c3%a9"), b"/v1/jobs/" + b"a" * 4000):
            data = b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + self.auth + b"\r\n\r\n"
            yield Case(f"path {target[:40]!r}", data, expect=({403, 404},))
        yield self.refused("a target of 9 KiB", b"GET /" + b"a" * 9216 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431)

    # --- lines and fields -------------------------------------------------------------------------

    def line_ends(self):
        lines = [b"POST /v1/jobs HTTP/1.1", b"host: x", b"content-length: 5", b"x-last: y", b""]
        for where in range(len(lines)):
            for end in (b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n\n", b"\x0b\r\n", b"\x85", b"\r\x00\n"):
                data = b"".join(line + (end if number == where else b"\r\n") for number, line in enumerate(lines))
                # An end that makes the rest of the head its body's is told from another: one refusal, no more.
                if data.startswith(b"\r\n".join(lines)) or (end == b"\r\n\n" and where == 4):
                    continue
                yield Case(f"line {where} ends in {end!r}", data + b"hello" + self.smuggled, expect=(400,))

    def names(self):
        for byte in TOKEN_BREAKERS:
            name = b"x-a" + bytes([byte]) + b"b"
            yield self.refused(f"name with {bytes([byte])!r}", b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + name + b": y\r\n\r\n")
        for line in (b": empty", b"no colon", b"content-length : 5", b"transfer-encoding\t: chunked", b" folded: first",
                     b"x: y\r\n folded", b"x: y\r\n\tfolded", b"x: y\r\n \r\ntransfer-encoding: chunked",
                     b"content-length: 5\r\n ,5", b"transfer-encoding:\r\n chunked"):
            yield self.refused(f"field {line!r}", b"POST /healthz HTTP/1.1\r\nhost: x\r\n" + line + b"\r\n\r\n")
        yield self.refused("the first field is folded", b"GET /healthz HTTP/1.1\r\n host: x\r\n\r\n")

    def values(self):
        for byte in CONTROLS:
            data = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: b" + bytes([byte]) + b"c\r\n\r\n"
            yield self.refused(f"value with {bytes([byte])!r}", data)
        for field in (b"authorization", b"x-api-key", b"idempotency-key", b"x-request-id", b"content-type"):
            data = self.submit(field + b": a\x00b", auth=False) + self.body
            yield self.refused(f"NUL in {field!r}", data)

    def hosts(self):
        for lines in (b"", b"host: x\r\nhost: x\r\n", b"host: x\r\nHost: y\r\n", b"host: x/y\r\n", b"host: x y\r\n",
                      b"host: x@y\r\n", b"host: x,y\r\n", b"host: <x>\r\n", b"host: \xc3\xa9\r\n", b"hos\xd4: x\r\n"):
            yield self.refused(f"host {lines!r}", b"GET /healthz HTTP/1.1\r\n" + lines + b"\r\n")

    # --- how long a body is -----------------------------------------------------------------------

    def lengths(self):
        for value in (b"", b"+5", b"-5", b"0x5", b"5 5", b"5,5", b"5, 5", b"5;5", b"5.0", b"1e1", b"five", b"5a", b"a5",
                      b"\xd9\xa5", b"5\x0b", b"\x0b5", b"'5'", b"\"5\"", b"(5)", b"5\xa0", b"--5", b"5-", b"NaN", b"0b101"):
            yield self.refused(f"length {value!r}", self.submit(b"content-length: " + value) + b"hello")
        for value in (b"9223372036854775807", b"9223372036854775808", b"18446744073709551621", b"9" * 40, b"4294967301",
                      b"5368709120"):
            yield self.refused(f"length {value!r}", self.submit(b"content-length: " + value) + b"hello", 413)
        for lines in (b"content-length: 5\r\ncontent-length: 5", b"content-length: 5\r\ncontent-length: 6",
                      b"content-length: 5\r\nContent-Length: 0", b"content-length: 0\r\nx: y\r\ncontent-length: 5"):
            yield self.refused(f"lengths {lines!r}", self.submit(lines) + b"hello")

    def codings(self):
        for value in (b"identity", b"identity, chunked", b"chunked, identity", b"gzip, chunked", b"gzip", b"chunked, chunked",
                      b"xchunked", b"chunkedx", b"chunk", b"chunked;q=1", b"\"chunked\"", b"'chunked'", b",chunked", b"chunked,",
                      b"chunked chunked", b"deflate", b"x\xffchunked", b"(chunked)", b"chunked, ", b"compress, identity",
                      b"\tchunked\t"):
            data = self.submit(b"transfer-encoding: " + value) + b"0\r\n\r\n"
            yield self.refused(f"coding {value!r}", data, {400, 501})
        for lines in (b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
                      b"transfer-encoding: chunked\r\nTransfer-Encoding: identity",
                      b"transfer-encoding: identity\r\ntransfer-encoding: chunked",
                      b"transfer-encoding: \r\ntransfer-encoding: chunked"):
            yield self.refused(f"codings {lines!r}", self.submit(lines) + b"0\r\n\r\n", {400, 501})
        yield self.refused("chunks in HTTP/1.0", self.submit(b"transfer-encoding: chunked", version=b"1.0") + b"0\r\n\r\n")
        for value in (b"gzip", b"deflate", b"br", b"zstd", b"gzip, identity", b"x"):
            data = self.submit(b"content-encoding: " + value + b"\r\ncontent-length: 5") + b"hello"
            yield self.refused(f"encoding {value!r}", data, 415)

    def both(self):
        for length in (b"0", b"5", b"4", b"99999"):
            for coding in (b"chunked", b"Chunked", b"\tchunked", b"chunked "):
                for is_length_first in (True, False):
                    lines = [b"content-length: " + length, b"transfer-encoding: " + coding]
                    framing = b"\r\n".join(lines if is_length_first else reversed(lines))
                    yield self.refused(f"both {framing!r}", self.submit(framing) + b"0\r\n\r\n")

    def chunks(self):
        body = self.body
        size = b"%x" % len(body)

        def chunked(name, data, expect=400):
            return self.refused(f"chunk {name}", self.submit(b"transfer-encoding: chunked") + data, expect)

        for bad in (b"", b"g", b"-1", b"+" + size, b"0x" + size, b" " + size, size + b" ", size + b"\t", b"\t" + size,
                    b";a=b", size + b" ;a=b", b"f" * 17, b"1" + b"0" * 15 + size, b"0" * 30 + size, size + b"\x00",
                    size + b",", size + b"h", b"\"" + size + b"\"", b"-0", b"00x0", b"0 "):
            yield chunked(f"size {bad!r}", bad + b"\r\n" + body + b"\r\n0\r\n\r\n")
        for end in (b"\n", b"\r", b"\r\r\n", b"\r\x00\n", b""):
            yield chunked(f"size ends in {end!r}", size + end + body + b"\r\n0\r\n\r\n")
            yield chunked(f"data ends in {end!r}", size + b"\r\n" + body + end + b"0\r\n\r\n")
            yield chunked(f"the last size ends in {end!r}", size + b"\r\n" + body + b"\r\n0" + end + b"\r\nx", {400, 431})
        yield chunked("longer than said", size + b"\r\n" + body + b"more\r\n0\r\n\r\n")
        yield chunked("shorter than said", size + b"\r\n" + body[:-5] + b"\r\n0\r\n\r\n")
        yield chunked("extension with LF", size + b";a\n" + body + b"\r\n0\r\n\r\n")
        yield chunked("extension with NUL", size + b";a\x00b\r\n" + body + b"\r\n0\r\n\r\n")
        yield chunked("extension without end", size + b";" + b"a" * 70000 + b"\r\n" + body + b"\r\n0\r\n\r\n")
        many = b"".join(b"1;" + b"x" * 200 + b"\r\n%c\r\n" % byte for byte in body)
        yield chunked("extensions on each byte", many * 10 + b"0\r\n\r\n")

    def trailers(self):
        data = b"%x\r\n%s\r\n0\r\n" % (len(self.body), self.body)
        for trailer in (b"no colon\r\n", b" folded: x\r\n", b"x: y\r\n z\r\n", b"x y: z\r\n", b": z\r\n", b"x: \x00\r\n",
                        b"x: y\n", b"x\x00: y\r\n", b"x : y\r\n"):
            yield self.refused(f"trailer {trailer!r}", self.submit(b"transfer-encoding: chunked") + data + trailer + b"\r\n")
        for trailer, name in ((b"x: " + b"y" * 70000 + b"\r\n", "long"), (b"x: y\r\n" * 20000, "many")):
            yield self.refused(f"trailer {name}", self.submit(b"transfer-encoding: chunked") + data + trailer + b"\r\n", 431)

    # --- what is good, but hides a request ----------------------------------------------------------

    def hidden(self):
        """The body is the smuggled request: a bad body (400), and the next request is the next."""
        inner = self.smuggled
        whole = b"content-length: %d" % len(inner)
        for name, framing in (("plain", whole), ("tabs", whole.replace(b" ", b"\t ")), ("blanks behind", whole + b"  "),
                              ("zeros before", whole.replace(b": ", b": 000")), ("capitals", whole.upper()),
                              ("an underscore's coding", b"transfer_encoding: chunked\r\n" + whole),
                              ("x- coding", b"x-transfer-encoding: chunked\r\n" + whole),
                              ("TE", b"te: chunked, trailers\r\n" + whole),
                              ("upgrade", b"connection: upgrade\r\nupgrade: h2c\r\n" + whole),
                              ("websocket", b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n" + whole),
                              ("connection names the length", b"connection: content-length\r\n" + whole),
                              ("expect", b"expect: 100-continue\r\n" + whole),
                              ("another method", b"x-http-method-override: GET\r\n" + whole),
                              ("forwarded", b"x-forwarded-for: 127.0.0.1\r\nx-original-url: /admin/v1/tenants\r\n" + whole)):
            yield Case(f"hidden, {name}", self.submit(framing) + inner + READY, expect=(400, 200))
        chunked = [b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner),
                   b"%x;0\r\n%s\r\n0\r\n\r\n" % (len(inner), inner),
                   b"%x\r\n%s\r\n0\r\ncontent-length: 9\r\n\r\n" % (len(inner), inner),
                   b"%x\r\n%s\r\n0\r\ntransfer-encoding: identity\r\nhost: y\r\n\r\n" % (len(inner), inner),
                   b"".join(b"1\r\n%c\r\n" % byte for byte in inner) + b"000\r\n\r\n"]
        for number, data in enumerate(chunked):
            for coding in (b"chunked", b"ChunKed", b"   chunked"):
                yield Case(f"hidden in chunks {number} {coding!r}",
                           self.submit(b"transfer-encoding:" + coding) + data + READY, expect=(400, 200))
        for path in (b"/healthz", b"/nowhere", b"/v1/jobs/job_0"):
            data = b"POST " + path + b" HTTP/1.1\r\nhost: x\r\n" + self.auth + b"\r\n" + whole + b"\r\n\r\n" + inner + READY
            yield Case(f"hidden in the body of {path!r}", data, expect=({404, 405}, 200))
        for method in (b"GET", b"DELETE", b"OPTIONS"):
            data = method + b" /healthz HTTP/1.1\r\nhost: x\r\n" + whole + b"\r\n\r\n" + inner + READY
            yield Case(f"hidden in the body of a {method!r}", data, expect=({200, 405}, 200))
        # One byte at a time must read the same.
        data = self.submit(whole) + inner + READY
        yield Case("hidden, byte by byte", *(bytes([byte]) for byte in data), expect=(400, 200))

    def pipelines(self):
        ready = READY.replace(b"connection: close\r\n", b"")
        yield Case("a good pipeline", ready * 20 + READY, expect=(200,) * 21)
        for refusal in (b"GET /x HTTP/1.1\r\n\r\n", b"GET /x HTTP/2.0\r\nhost: x\r\n\r\n", b"\x00\r\n\r\n",
                        b"GET /healthz HTTP/1.1\nhost: x\r\n\r\n"):
            yield Case(f"pipeline behind {refusal!r}", ready * 3 + refusal + self.smuggled * 3,
                       expect=(200, 200, 200, {400, 505}))
        closing = READY + self.smuggled * 2
        yield Case("pipeline behind close", closing, expect=(200,))
        yield Case("pipeline behind close, later", READY, self.smuggled, expect=(200,), may_reset=True)
        yield Case("pipeline behind HTTP/1.0", b"GET /readyz HTTP/1.0\r\n\r\n" + self.smuggled, expect=(200,))
        nokey = self.submit(b"content-length: %d" % len(self.body), self.body, auth=False)
        yield Case("pipeline of requests without a key", nokey * 5 + READY, expect=(401,) * 5 + (200,))

    # --- too much ---------------------------------------------------------------------------------

    def floods(self):
        start = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"
        yield Case("99 more fields", start + b"x: y\r\n" * 98 + b"connection: close\r\n\r\n", expect=(200,))
        for count in (100, 101, 500):
            yield self.refused(f"{count} more fields", start + b"x: y\r\n" * count + b"\r\n", 431)
        for size in (33 << 10, 64 << 10):
            yield self.refused(f"a field of {size} bytes", start + b"x: " + b"y" * size + b"\r\n\r\n", 431)
            yield self.refused(f"a name of {size} bytes", start + b"x" * size + b": y\r\n\r\n", 431)
        for name, data in (("a field of 10 MB", start + b"x: " + b"y" * 10_000_000),
                           ("a request line of 10 MB", b"GET /" + b"y" * 10_000_000),
                           ("a method of 10 MB", b"Y" * 10_000_000),
                           ("a million fields", start + b"x: y\r\n" * 1_000_000),
                           ("a million empty lines", b"\r\n" * 1_000_000),
                           ("10 MB of NUL", b"\x00" * 10_000_000)):
            yield Case(name, data, expect=({400, 431},), may_reset=True)
        yield Case("more than the body limit", self.submit(b"content-length: 5000000") + b"x" * 5_000_000,
                   expect=(413,), may_reset=True)
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        yield Case("more than the body limit in chunks", self.submit(b"transfer-encoding: chunked") + chunk * 80,
                   expect=(413,), may_reset=True)

    def protocols(self):
        for name, data in (("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)),
                           ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
                           ("SMTP", b"EHLO x\r\nMAIL FROM:<x@y>\r\nRCPT TO:<x@y>\r\nDATA\r\n\r\n"),
                           ("Redis", b"*1\r\n$4\r\nPING\r\n\r\n"),
                           ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
                           ("PROXY", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"),
                           ("PROXY v2", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12)),
                           ("FTP", b"USER anonymous\r\n\r\n"), ("SOCKS", b"\x05\x01\x00"),
                           ("an answer", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")):
            yield Case(name, data, self.smuggled, expect=({400, 431, 505},), may_reset=True)
        yield Case("an absolute form", b"GET http://evil.example/readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
                   expect=({200, 400, 404},))
        yield Case("another absolute form", b"GET https://admin@x/readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
                   expect=({200, 400, 404},))

    # --- ends before its time -----------------------------------------------------------------------

    def cut_off(self):
        """A part of a request and then only FIN: nothing may come of it."""
        good = self.smuggled
        body_at = good.index(b"\r\n\r\n") + 4
        for name, size in (("a byte", 1), ("the request line", 20), ("before the last LF", body_at - 1), ("the head", body_at),
                           ("all but a byte", len(good) - 1)):
            yield CutOff(f"half close after {name}", good[:size], expect=(400,))
        chunked = self.submit(b"transfer-encoding: chunked")
        for name, data in (("the size", b"2"), ("some data", b"f\r\nabc"), ("the last chunk", b"2\r\n{}\r\n0\r\n")):
            yield CutOff(f"half close in chunks after {name}", chunked + data, expect=(400,))
        yield CutOff("half close behind a whole request", READY, expect=(200,))
        yield CutOff("half close at once", b"", expect=())


class CutOff(Case):
    """The sending side is shut after the bytes; an answer may come or not."""
