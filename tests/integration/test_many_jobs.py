# SPDX-License-Identifier: Apache-2.0
"""Many jobs at once by four bulk uploads, some calls refused, failing or cut: each ends once, with its
own text, and the ledger says the same as the provider's log, call by call and to the nano-dollar."""

import json
import threading
import uuid
from decimal import Decimal

import pytest

from conftest import running
from testenv.api import chat
from testenv.ledger import cost_nano
from testenv.simulator import prompt_sha256
from testenv.stack import Stack
from testenv.wait import Stopwatch, wait_until

UPLOADS = 4
# Of a hundred jobs, five are first told 429, three 500, and two lose the stream in its middle.
WISHES = {**dict.fromkeys(range(0, 50, 10), {"status": 429, "times": 1, "retry_after_ms": 50}),
          **dict.fromkeys(range(3, 33, 10), {"status": 500, "times": 1}),
          **dict.fromkeys(range(7, 27, 10), {"fault": "cut_line", "after": 2, "times": 1})}


@pytest.fixture(scope="module")
def stack():
    yield from running(Stack(producers=2, workers=2))


def request_of(number):
    """A prompt of its own, which the provider says back: the answer shows whose it is."""
    return chat(text=f"job {number} of {uuid.uuid4()}", echo=1, **WISHES.get(number % 100, {}))


def own_text(request):
    return request["messages"][0]["content"].partition("[[sim")[0]


def upload_all(stack, requests):
    """The ids, in the order of the requests."""
    part = len(requests) // UPLOADS
    ids = [None] * UPLOADS

    def upload(number):
        lines = [{"request": request} for request in requests[number * part:(number + 1) * part]]
        answers, summary = stack.api(producer=number % 2).bulk(lines)
        assert summary == {"object": "bulk.summary", "accepted": part, "rejected": 0}
        ids[number] = [answer["id"] for answer in answers]

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(UPLOADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [job for some in ids for job in some]


def check_call(row, call):
    """One row of the ledger beside one request on the wire; what it cost."""
    assert (row["provider"], row["status"]) == (call["provider"], call["status"]), (row, call)
    if call["outcome"] == "completed":
        assert row["state"] == "settled" and call["sent_usage"]
        assert (row["input_tokens"], row["output_tokens"]) == (call["prompt_tokens"], call["output_tokens"])
        assert row["cost_nano"] == cost_nano(call["prompt_tokens"], call["output_tokens"])
    elif call["status"] == 429:
        assert row["state"] == "released" and row["cost_nano"] == 0, row
    else:
        # Cut, or a 500: nobody knows what it cost, the reservation stays booked.
        assert row["state"] == "unknown" and row["cost_nano"] == row["reserved_nano"] > 0, row
    return row["cost_nano"] if row["state"] == "settled" else 0


@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [2000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_each_of_many_jobs_succeeds_once_with_its_own_text_and_price(stack, count):
    requests = [request_of(number) for number in range(count)]
    watch = Stopwatch()
    ids = upload_all(stack, requests)
    uploaded_s = watch.seconds
    assert len(set(ids)) == count
    hexes = [job[4:] for job in ids]
    wait_until(lambda: stack.sql.value("SELECT count(*) FROM jobs WHERE id = ANY(%s::uuid[]) AND state IS NOT NULL",
                                       hexes) == count, 600, "all jobs to end", interval_s=0.5)
    ended_s = watch.seconds
    jobs = {row["id"].hex: row for row in stack.sql.rows(
        "SELECT id, state, result, attempts, deferrals, crashes FROM jobs WHERE id = ANY(%s::uuid[])", hexes)}
    ledger, by_prompt = {}, {}
    for row in stack.sql.rows("SELECT * FROM calls WHERE job = ANY(%s::uuid[]) ORDER BY job, call", hexes):
        ledger.setdefault(row["job"].hex, []).append(row)
    log = stack.simulator.all_calls()
    for call in log:
        by_prompt.setdefault(call["prompt_sha256"], []).append(call)

    spent = billed = rows = 0
    for number, (job, request) in enumerate(zip(hexes, requests)):
        wish = WISHES.get(number % 100)
        assert jobs[job]["state"] == "succeeded", jobs[job]
        answer = json.loads(jobs[job]["result"])
        assert answer["choices"][0]["message"]["content"] == own_text(request)
        calls, mine = by_prompt[prompt_sha256(request)], ledger[job]
        assert len(calls) == len(mine) == (2 if wish else 1), "\n".join(map(str, [wish, *calls, *mine]))
        assert [row["call"] for row in mine] == list(range(1, len(mine) + 1))
        spent += sum(check_call(row, call) for row, call in zip(mine, calls))
        good = [call for call in calls if call["outcome"] == "completed"]
        assert len(good) == 1
        billed += cost_nano(good[0]["prompt_tokens"], good[0]["output_tokens"])
        rows += len(mine)
        assert jobs[job]["crashes"] == 0
        assert (jobs[job]["attempts"], jobs[job]["deferrals"]) == \
            ((1, 1) if wish and wish.get("status") == 429 else (len(mine), 0))
    assert spent == billed
    assert stack.sql.value("SELECT count(*) FROM calls WHERE job = ANY(%s::uuid[])", hexes) == rows
    # What the API says of one is what the ledger sums up to.
    for job in (ids[0], ids[7], ids[count - 1]):
        shown = stack.api().job(job)
        assert Decimal(shown["cost_usd"]) * 10 ** 9 == \
            sum(row["cost_nano"] for row in ledger[job[4:]] if row["state"] == "settled")
    print(f"{count} jobs: uploaded in {uploaded_s:.1f} s, ended after {ended_s:.1f} s "
          f"({count / ended_s:.0f} jobs/s), {rows} calls, {spent} nano-dollars")
