# SPDX-License-Identifier: Apache-2.0
"""The invariants, judged by what the clients were told, the provider stand-in saw, the webhook sink
got and the database holds; by nothing that Nightshift counts itself."""

import hashlib
import json
from collections import Counter, defaultdict

from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from testenv.ledger import cost_nano
from testenv.simulator import prompt_sha256

ENDS = {"job.succeeded", "job.failed", "job.cancelled", "job.expired"}


class Checker:
    def __init__(self, stack, load):
        self.stack = stack
        self.load = load
        self.faults = []
        hexes = [job[4:] for job in load.jobs()]
        self.jobs = self.by_job("SELECT *, id AS job FROM jobs WHERE id = ANY(%s::uuid[])", hexes)
        self.calls = self.by_job("SELECT * FROM calls WHERE job = ANY(%s::uuid[]) ORDER BY job, call", hexes)
        self.events = self.by_job("SELECT * FROM events WHERE job = ANY(%s::uuid[]) ORDER BY job, run, seq", hexes)
        self.wire = defaultdict(list)
        for call in stack.simulator.all_calls():
            self.wire[call["prompt_sha256"]].append(call)

    def by_job(self, sql, hexes):
        rows = defaultdict(list)
        for row in self.stack.sql.rows(sql, hexes):
            rows[f"job_{row['job'].hex}"].append(row)
        return rows

    def fault(self, text):
        self.faults.append(text)

    def check(self):
        """The faults that were found."""
        self.check_idempotency()
        for key, (job, request) in self.load.accepted.items():
            rows = self.jobs.get(job)
            if not rows:
                self.fault(f"I1 {job} ({key}) was answered 202 and is not there")
                continue
            self.check_end(job, rows[0])
            self.check_wire(job, request)
            self.check_text(job, rows[0], request)
        self.check_nothing_lives()
        self.check_webhooks()
        return self.faults

    def check_idempotency(self):
        """I9: one key, one job, always."""
        for key, first, other in self.load.other_ids:
            self.fault(f"I9 {key} was {first} and then {other}")
        ids = Counter(self.load.jobs())
        for job, count in ids.items():
            if count > 1:
                self.fault(f"I9 {job} was given for {count} keys")
        total = self.stack.sql.value("SELECT count(*) FROM jobs")
        if total != len(ids):
            self.fault(f"I9 {len(ids)} jobs were accepted, {total} are stored")

    def check_end(self, job, row):
        """I1, I2: one end, the last thing that happened, and the one that the row tells."""
        if row["state"] is None:
            self.fault(f"I1 {job} has not ended")
            return
        if row["state"] != "succeeded":
            self.fault(f"I1 {job} ended {row['state']}: {row['error_type']} {row['error_message']}")
        kinds = [event["kind"] for event in self.events[job]]
        ends = [kind for kind in kinds if kind in ENDS]
        if ends != [f"job.{row['state']}"] or kinds[-1] != ends[0]:
            self.fault(f"I2 {job} is {row['state']}, its events end {kinds[-3:]}")
        if kinds[:1] != ["job.queued"]:
            self.fault(f"I2 {job} begins with {kinds[:1]}")

    def check_wire(self, job, request):
        """I3, I4: one row, at most one request; an answered request has its row, and a settled row
        costs what its tokens cost."""
        rows, calls = self.calls[job], self.wire[prompt_sha256(request)]
        if [row["call"] for row in rows] != list(range(1, len(rows) + 1)):
            self.fault(f"I3 {job}: calls are numbered {[row['call'] for row in rows]}")
        for row in rows:
            if row["state"] == "sent":
                self.fault(f"I3 {job}: call {row['call']} was never settled")
        if len(calls) > len(rows):
            self.fault(f"I3 {job}: {len(calls)} requests on the wire, {len(rows)} rows in the ledger")
        settled = [row for row in rows if row["state"] == "settled"]
        told = Counter((call["prompt_tokens"], call["output_tokens"]) for call in calls if call["status"] == 200)
        for row in settled:
            tokens = (row["input_tokens"], row["output_tokens"])
            if not row["is_usage_estimated"] and told[tokens] < 1:
                self.fault(f"I4 {job}: call {row['call']} is settled at {tokens}, the provider told {dict(told)}")
            told[tokens] -= 1
            if row["cost_nano"] != cost_nano(row["input_tokens"], row["output_tokens"]):
                self.fault(f"I4 {job}: call {row['call']} cost {row['cost_nano']} nano-dollars")
        for row in rows:
            if row["state"] == "unknown" and row["cost_nano"] != row["reserved_nano"]:
                self.fault(f"I4 {job}: call {row['call']} is unknown and not booked whole")

    def check_text(self, job, row, request):
        """I7: the stored result is what one completed call said, and the events join to it."""
        if row["state"] != "succeeded":
            return
        if hashlib.sha256(row["result"].encode()).digest() != bytes(row["result_sha256"]):
            self.fault(f"I7 {job}: the result's hash is of something else")
        text = json.loads(row["result"])["choices"][0]["message"]["content"]
        sha = hashlib.sha256(text.encode()).hexdigest()
        calls = self.wire[prompt_sha256(request)]
        if not any(call["text_sha256"] == sha and call["outcome"] == "completed" for call in calls):
            self.fault(f"I7 {job}: no completed call said what is stored")
        attempts = defaultdict(bytes)
        for event in self.events[job]:
            if event["kind"] == "output.delta":
                if event["byte_offset"] != len(attempts[event["attempt"]]):
                    self.fault(f"I7 {job}: attempt {event['attempt']} has a gap or repeat at {event['byte_offset']}")
                attempts[event["attempt"]] += event["text"].encode()
        if attempts and attempts[max(attempts)] != text.encode():
            self.fault(f"I7 {job}: the deltas of attempt {max(attempts)} are not the result")

    def check_nothing_lives(self):
        for table in ("queue", "runs"):
            left = self.stack.sql.value(f"SELECT count(*) FROM {table}")
            if left:
                self.fault(f"I1 {left} rows are left in {table}")

    def check_webhooks(self):
        """I8: every job was told, under one id, with a signature that somebody else's verifier takes."""
        ids = defaultdict(set)
        webhook = Webhook(self.load.webhook_secret)
        for entry in self.stack.simulator.deliveries(self.load.sink):
            body = json.loads(entry["body"])
            ids[body["data"]["id"]].add(entry["headers"]["webhook-id"])
            try:
                webhook.verify(entry["body"], entry["headers"])
            except WebhookVerificationError as error:
                if "too old" not in str(error):  # the run may have lasted longer than its tolerance
                    self.fault(f"I8 {body['data']['id']}: {error}")
            states = self.jobs.get(body["data"]["id"])
            if states and body["type"] != f"job.{states[0]['state']}":
                self.fault(f"I8 {body['data']['id']}: told {body['type']}, is {states[0]['state']}")
        for job in self.load.jobs():
            if len(ids[job]) != 1:
                self.fault(f"I8 {job}: webhooks under {len(ids[job])} ids")

