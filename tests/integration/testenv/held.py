# SPDX-License-Identifier: Apache-2.0
"""What Redis holds of a tenant, read as common/model/book_redis.h and common/model/scripts/rates.lua say."""

import struct
from typing import NamedTuple

import redis


class Book(NamedTuple):
    generation: str
    live: int  # reservations that are out
    accounts: dict  # name: (spent, reserved, unknown)


def book(url, tenant):
    """None: there is none."""
    with redis.Redis.from_url(url) as client:
        fields = client.hgetall(f"{{t:{tenant}}}:book")
    if b"head" not in fields:
        return None
    head = fields[b"head"]
    return Book(head[16:].decode(), int(struct.unpack("<dd", head[:16])[1]),
                {name[2:].decode(): tuple(map(int, struct.unpack("<ddd", value)))
                 for name, value in fields.items() if name.startswith(b"a:")})


def leases(url, tenant):
    """How many are out, over all scopes; and the names of the calls that hold something of the rates."""
    prefix = f"{{t:{tenant}}}:"
    out = 0
    with redis.Redis.from_url(url) as client:
        names = list(client.scan_iter(f"{prefix}*", count=1000))
        for name in names:
            raw = client.get(name) if name.startswith(f"{prefix}m:".encode()) else None
            if raw:
                state = struct.unpack(f"<{len(raw) // 8}d", raw)
                out += int(sum(state[(18 if state[3] > 0 else 5)::2]))
    return out, [name for name in names if name.startswith(f"{prefix}h:".encode())]
