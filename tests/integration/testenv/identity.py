# SPDX-License-Identifier: Apache-2.0
"""A small identity provider: RSA keys, a server with their public halves, and tokens."""

import base64
import hashlib
import hmac
import http.server
import json
import secrets
import threading
import time

# DER of "SHA-256 by PKCS #1 v1.5" in front of the digest.
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
EXPONENT = 65537
BITS = 2048


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def is_prime(number):
    """Miller and Rabin's test; enough for a key that lives for a test."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(12):
        value = pow(secrets.randbelow(number - 3) + 2, odd, number)
        if value in (1, number - 1):
            continue
        for _ in range(twos - 1):
            value = value * value % number
            if value == number - 1:
                break
        else:
            return False
    return True


def make_prime(bits):
    while True:
        number = secrets.randbits(bits) | (3 << (bits - 2)) | 1
        if all(number % small for small in (3, 5, 7, 11, 13, 17, 19, 23, 29, 31)) \
                and (number - 1) % EXPONENT and is_prime(number):
            return number


class Key:
    """An RSA key with a name."""

    def __init__(self, kid):
        first, second = make_prime(BITS // 2), make_prime(BITS // 2)
        self.kid = kid
        self.modulus = first * second
        self.private = pow(EXPONENT, -1, (first - 1) * (second - 1))

    def public(self):
        return {"kty": "RSA", "kid": self.kid, "use": "sig", "alg": "RS256",
                "n": encode(self.modulus.to_bytes(BITS // 8, "big")), "e": "AQAB"}

    def sign(self, text):
        info = SHA256_INFO + hashlib.sha256(text).digest()
        padded = b"\0\1" + b"\xff" * (BITS // 8 - len(info) - 3) + b"\0" + info
        return pow(int.from_bytes(padded, "big"), self.private, self.modulus).to_bytes(BITS // 8, "big")

    def sign_as_secret(self, text):
        """HS256 with what everybody knows of the key."""
        return hmac.new(self.modulus.to_bytes(BITS // 8, "big"), text, "sha256").digest()


class IdentityProvider:
    """As a context: serves the public halves of `keys` at `url` until it ends or stop() is called."""

    issuer = "https://idp.example"
    audience = "nightshift"

    def __init__(self):
        self.keys = [Key("one")]
        self.asked = 0
        self.server = None
        self.url = None

    def __enter__(self):
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # pylint: disable=invalid-name
                provider.asked += 1
                body = json.dumps({"keys": [key.public() for key in provider.keys]}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments):  # pylint: disable=arguments-differ
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def token(self, org="org-1", scope="jobs:write jobs:read", key=None, header=None, signer=None, **claims):
        """A good token, but for what is said otherwise; a claim of None is left out."""
        key = key or self.keys[0]
        told = {"iss": self.issuer, "aud": self.audience, "exp": int(time.time()) + 600, "org": org, "scope": scope,
                **claims}
        told = {name: value for name, value in told.items() if value is not None}
        parts = ({"alg": "RS256", "kid": key.kid, "typ": "JWT", **(header or {})}, told)
        text = ".".join(encode(json.dumps(part).encode()) for part in parts)
        return f"{text}.{encode((signer or key.sign)(text.encode()))}"
