# SPDX-License-Identifier: Apache-2.0
"""Clients that submit jobs as a careful application would: each under a key of its own, repeated
under the same key until a clear answer comes."""

import random
import threading

import httpx

from testenv.api import chat

CLIENTS = 4
# What befalls a job's first call: (how often in a hundred, the simulator's knobs).
MISHAPS = ((5, {"status": 429, "times": 1, "retry_after_ms": 100}), (3, {"status": 500, "times": 1}),
           (2, {"fault": "cut_line", "after": 4, "times": 1}))


class Load:
    def __init__(self, stack, rng, jobs):
        self.stack = stack
        self.per_client = max(1, jobs // CLIENTS)
        self.seeds = [rng.random() for _ in range(CLIENTS)]
        self.accepted = {}  # key: (job id, request)
        self.other_ids = []  # (key, first id, other id): must stay empty
        self.retries = 0
        self.sink = "chaos"
        made = stack.admin().post_json("/admin/v1/tenants/default/endpoints",
                                       {"url": stack.simulator.hook_url(self.sink)}, expect=201)
        self.webhook_secret = made["secret"]
        self.lock = threading.Lock()
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(number,), daemon=True)
                        for number in range(CLIENTS)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        """No new jobs; those half submitted are seen through."""
        self.is_over.set()
        for thread in self.threads:
            thread.join(120)

    def is_done(self):
        return not any(thread.is_alive() for thread in self.threads)

    def jobs(self):
        return [job for job, _ in self.accepted.values()]

    # --- one client -----------------------------------------------------------------------------

    def client(self, number):
        rng = random.Random(self.seeds[number])
        apis = [self.stack.api(producer=which) for which in range(len(self.stack.urls))]
        for count in range(self.per_client):
            if self.is_over.is_set():
                return
            key = f"chaos-{number}-{count}"
            request = self.request(rng, key)
            job = self.submit(apis, rng, key, request)
            if not job:
                return
            with self.lock:
                self.accepted[key] = (job, request)
            if rng.random() < 0.1:  # a client that forgot the answer
                again = self.submit(apis, rng, key, request)
                if again and again != job:
                    self.other_ids.append((key, job, again))
            self.is_over.wait(rng.expovariate(1 / 0.1))

    def request(self, rng, key):
        draw, knobs = rng.random() * 100, {}
        for share, wish in MISHAPS:
            if draw < share:
                knobs = wish
                break
            draw -= share
        return chat(text=f"job {key}", tokens=rng.randint(5, 30), rate=20, unicode=1, **knobs)

    def submit(self, apis, rng, key, request):
        """The job's id; repeated for up to two minutes."""
        body = {"request": request, "priority": ("high", "normal", "low")[hash_of(key) % 3]}
        for _ in range(600):
            try:
                answer = rng.choice(apis).client.post("/v1/jobs", json=body, timeout=10,
                                                      headers={"idempotency-key": key})
                if answer.status_code == 202:
                    return answer.json()["id"]
                if answer.status_code not in (409, 429, 500, 503):
                    raise AssertionError(f"submit {key}: {answer.status_code} {answer.text[:300]}")
            except httpx.TransportError:
                pass
            with self.lock:
                self.retries += 1
            threading.Event().wait(0.2)
        return None


def hash_of(key):
    """The same in every run, unlike hash()."""
    return sum(key.encode())
