# SPDX-License-Identifier: Apache-2.0
"""The clients: they submit, cancel, read and stream, try again as a good client does, and write down
every answer.  What they wrote is evidence; nothing here judges it."""

import hashlib
import json
import random
import threading
import time

import httpx

from testenv.api import TERMINAL, parse_events, soon

# Markers of the simulator, each with its share.  {n} is filled with a number of the job's own kind.
ASKS = (
    (20, "tokens={small}"),
    (14, "tokens={small} unicode=1"),
    (18, "tokens={long} rate={rate}"),
    (8, "tokens={long} rate={rate} unicode=1"),
    (5, "tokens={small} status=429 retry_after=1 times={times}"),
    (4, "tokens={small} status=429 times={times}"),
    (4, "tokens={small} status=500 times={times}"),
    (3, "tokens={small} status=503 retry_after=1 times={times}"),
    (3, "tokens={small} fault=reset_before times={times}"),
    (3, "tokens={small} fault=reset_after_head times=1"),
    (4, "tokens={long} rate={rate} fault=cut_line after={after} times={times}"),
    (3, "tokens={long} rate={rate} fault=reset_mid after={after} times=1"),
    (3, "tokens={long} rate={rate} fault=close_mid after={after} times=1"),
    (2, "tokens={long} rate={rate} fault=end_mid after={after} times=1"),
    (2, "tokens={long} fault=silence_mid after={after} times=1"),
    (1, "tokens={small} fault=silence times=1"),
    (2, "tokens={small} fault=no_usage"),
    (1, "tokens={small} delay_ms=2500"),
)
REFUSED_ASK = "status=400"  # the one that makes a job fail


def ask(rng):
    marker = rng.choices([text for _, text in ASKS], [share for share, _ in ASKS])[0]
    return marker.format(small=rng.randint(1, 25), long=rng.randint(30, 120), rate=rng.randint(20, 60),
                         times=rng.randint(1, 2), after=rng.randint(2, 25))


def plan_job(rng, seed, part, number):
    """What one job is: its body, and what is done to it afterwards.  A pure function of the seed."""
    key = f"chaos-{seed}-{part}-{number}"
    is_refused = rng.random() < 0.02
    marker = REFUSED_ASK if is_refused else ask(rng)
    text = f"{key} {rng.getrandbits(64):016x} [[sim {marker}]]"
    body = {"request": {"model": "single" if is_refused else "fast",
                        "messages": [{"role": "user", "content": text}]},
            "priority": rng.choices(("high", "normal", "low"), (3, 5, 2))[0], "max_attempts": 20,
            "workflow": f"part-{part}", "metadata": {"key": key}}
    plan = {"key": key, "marker": marker, "is_refused": is_refused, "body": body, "expires": False,
            "prompt_sha256": hashlib.sha256(text.encode()).hexdigest()}
    fate = rng.random()
    plan["cancel_after_s"] = rng.choice((0, 0.2, 1, 3, 8)) if fate < 0.08 else None
    plan["is_streamed"] = 0.04 < fate < 0.25
    plan["is_read"] = 0.25 < fate < 0.35
    plan["is_repeated"] = 0.35 < fate < 0.45
    if 0.5 < fate < 0.55:
        plan["run_in_s"] = rng.randint(1, 10)
    if 0.55 < fate < 0.57:
        plan["deadline_in_s"] = rng.randint(2, 6)
        plan["expires"] = True
    if 0.6 < fate < 0.7:
        plan["hook"] = rng.choice(("plain", "flaky"))
    return plan


class ClientLog:
    """What clients saw, in lists that any thread appends to."""

    def __init__(self):
        self.submits = []   # {key, id, body, plan, tries}
        self.repeats = []   # {key, id, bytes, is_same}
        self.refusals = []  # answers that no fault explains
        self.reads = []     # {id, state, sha256}
        self.cancels = []   # {id, state, status}
        self.streams = []   # {id, events, resumes}
        self.tries = 0
        self.retried = 0


class Client:
    """One thread's connections, one per producer."""

    def __init__(self, urls, key, log):
        self.log = log
        self.clients = [httpx.Client(base_url=url, timeout=12, trust_env=False,
                                     headers={"authorization": f"Bearer {key}"}) for url in urls]
        self.turn = 0

    def close(self):
        for client in self.clients:
            client.close()

    def until_answered(self, method, path, stop_at, **options):
        """The first answer that is not an outage's; None when the time is over.  What a client has
        to expect while servers die: no connection, no answer, 5xx with Retry-After, 409 to retry."""
        while time.monotonic() < stop_at:
            self.turn += 1
            self.log.tries += 1
            try:
                answer = self.clients[self.turn % len(self.clients)].request(method, path, **options)
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code < 500 and \
                    answer.headers.get("x-should-retry") != "true":
                return answer
            if answer is not None and answer.status_code >= 500 and answer.status_code != 503:
                self.log.refusals.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            self.log.retried += 1
            threading.Event().wait(0.1 + random.random() * 0.3)
        return None


class Load:
    """All clients of a run.  start(), then finish(stop_at) once everything is healed."""

    def __init__(self, stack, tenants, seed, rate, parts=6):
        self.stack = stack
        self.tenants = tenants  # [(name, key)]
        self.seed = seed
        self.rate = rate / parts
        self.parts = parts
        self.log = ClientLog()
        self.stopping = threading.Event()
        self.give_up_at = float("inf")
        self.threads = []
        self.followers = []
        self.lock = threading.Lock()

    def start(self):
        for part in range(self.parts):
            thread = threading.Thread(target=self.submit_part, args=(part,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def finish(self, stop_at):
        """No more submits; those under way are tried until stop_at.  The number of threads left."""
        self.give_up_at = stop_at
        self.stopping.set()
        for thread in self.threads:
            thread.join(max(0.1, stop_at - time.monotonic()))
        for thread in list(self.followers):
            thread.join(max(0.1, stop_at - time.monotonic()))
        return sum(thread.is_alive() for thread in self.threads + self.followers)

    def stop_at(self):
        return min(self.give_up_at, time.monotonic() + 600)

    def submit_part(self, part):
        rng = random.Random(f"{self.seed}/{part}")
        tenant, key = self.tenants[part % len(self.tenants)]
        client = Client(self.stack.urls, key, self.log)
        number = 0
        while not self.stopping.is_set():
            number += 1
            plan = plan_job(rng, self.seed, part, number)
            self.submit(client, plan, tenant, key)
            self.stopping.wait(rng.expovariate(self.rate))
        client.close()

    def submit(self, client, plan, tenant, key):
        body = dict(plan["body"])
        if "run_in_s" in plan:
            body["run_at"] = soon(seconds=plan["run_in_s"])
        if "deadline_in_s" in plan:
            body["deadline"] = soon(seconds=plan["deadline_in_s"])
        if "hook" in plan:
            query = {"status": 500, "times": 2, "per": "id"} if plan["hook"] == "flaky" else {}
            body["webhook"] = {"url": self.stack.simulator.hook_url(f"job-{plan['hook']}", **query)}
        content = json.dumps(body).encode()
        headers = {"content-type": "application/json", "idempotency-key": plan["key"]}
        entry = {"key": plan["key"], "tenant": tenant, "plan": plan, "id": None}
        self.log.submits.append(entry)
        answer = self.ask_submit(client, content, headers)
        if answer is None:
            return
        # A deadline may pass while everything is down; then nothing was accepted.
        if answer.status_code == 400 and "deadline_in_s" in plan:
            return
        if answer.status_code != 202:
            self.log.refusals.append(f"submit {plan['key']}: {answer.status_code} {answer.text[:300]}")
            return
        entry["id"] = answer.json()["id"]
        if plan["is_repeated"]:
            again = self.ask_submit(client, content, headers)
            if again is not None:
                self.log.repeats.append({"key": plan["key"], "id": entry["id"], "status": again.status_code,
                                         "is_same": again.content == answer.content})
        for wish, follower in (("cancel_after_s", self.cancel), ("is_streamed", self.stream),
                               ("is_read", self.read)):
            if plan[wish] is not None and plan[wish] is not False:
                self.follow(follower, entry, key)

    def ask_submit(self, client, content, headers):
        return client.until_answered("POST", "/v1/jobs", self.stop_at(), content=content, headers=headers)

    def follow(self, follower, entry, key):
        with self.lock:
            self.followers = [thread for thread in self.followers if thread.is_alive()]
            if len(self.followers) >= 60:
                return
            thread = threading.Thread(target=follower, args=(entry, key), daemon=True)
            self.followers.append(thread)
            thread.start()

    def cancel(self, entry, key):
        threading.Event().wait(entry["plan"]["cancel_after_s"])
        client = Client(self.stack.urls, key, self.log)
        answer = client.until_answered("POST", f"/v1/jobs/{entry['id']}/cancel", self.stop_at())
        if answer is not None:
            state = answer.json().get("state") if answer.status_code == 200 else None
            self.log.cancels.append({"id": entry["id"], "status": answer.status_code, "state": state})
        client.close()

    def read(self, entry, key):
        """Long-polls to the end, and once more: an end is an end."""
        client = Client(self.stack.urls, key, self.log)
        ends = 0
        while ends < 3 and time.monotonic() < self.stop_at():
            answer = client.until_answered("GET", f"/v1/jobs/{entry['id']}", self.stop_at(),
                                           params={"wait": 5})
            if answer is None:
                break
            job = answer.json() if answer.status_code == 200 else {}
            self.log.reads.append({"id": entry["id"], "status": answer.status_code, "state": job.get("state"),
                                   "sha256": (job.get("result") or {}).get("sha256")})
            ends += job.get("state") in TERMINAL or answer.status_code != 200
        client.close()

    def stream(self, entry, key):
        """Follows the events to the end, resuming at the next producer whenever the stream breaks."""
        seen, cursor, resumes = [], None, 0
        is_ended = False
        while not is_ended and time.monotonic() < self.stop_at():
            url = self.stack.urls[resumes % len(self.stack.urls)]
            headers = {"authorization": f"Bearer {key}"}
            if cursor:
                headers["last-event-id"] = cursor
            try:
                with httpx.Client(base_url=url, trust_env=False, timeout=httpx.Timeout(10, read=20)) as client, \
                        client.stream("GET", f"/v1/jobs/{entry['id']}/events", headers=headers) as answer:
                    if answer.status_code == 200:
                        for event in parse_events(answer.iter_raw()):
                            seen.append({"name": event.name, "cursor": event.cursor, "data": event.data,
                                         "resume": resumes})
                            cursor = event.cursor or cursor
                            is_ended = event.name.removeprefix("job.") in TERMINAL
                    elif answer.status_code < 500:
                        answer.read()
                        self.log.refusals.append(f"events {entry['id']} after {cursor}: "
                                                 f"{answer.status_code} {answer.text[:300]}")
                        break
            except (httpx.HTTPError, httpx.StreamError):
                pass
            if not is_ended:
                resumes += 1
                threading.Event().wait(0.2)
        self.log.streams.append({"id": entry["id"], "events": seen, "resumes": resumes, "is_ended": is_ended})
