# SPDX-License-Identifier: Apache-2.0
"""A reader of a job's events who loses the connection again and again."""

ENDS = ("job.succeeded", "job.failed", "job.cancelled", "job.expired")


def read_with_drops(stack, job, dice, drops, on_drop=None):
    """Reads to the end, dropping the stream so many times at random points and going on at another
    producer; (events, how many drops there were: fewer when they came merged, on a busy machine)."""
    seen, cursor, done = [], None, 0
    while not seen or seen[-1].name not in ENDS:
        patience = dice.randint(1, 3) if done < drops else 10 ** 9
        with stack.api(producer=dice.randrange(2)).events(job, last_event_id=cursor, timeout_s=90) as stream:
            for event in stream:
                seen.append(event)
                cursor = event.cursor
                patience -= 1
                if patience <= 0:
                    break
        if not seen or seen[-1].name not in ENDS:
            done += 1
            if on_drop:
                on_drop(done)
        assert done < drops + 500
    return seen, done
