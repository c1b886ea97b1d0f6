# SPDX-License-Identifier: Apache-2.0
"""What goes wrong, by chance: somebody dies at once, or stands still for a while."""

import threading

# (weight, part, what may be done to it)
TARGETS = (
    (4, "worker-1", ("kill", "stop")), (4, "worker-2", ("kill", "stop")),
    (2, "producer-1", ("kill", "stop")), (2, "producer-2", ("kill", "stop")),
    (2, "scheduler-1", ("kill", "stop")), (2, "scheduler-2", ("kill", "stop")),
    (2, "broker", ("kill", "stop")), (2, "redis", ("kill", "stop")), (2, "postgres", ("kill",)),
)


class Nemesis:
    def __init__(self, stack, rng, say):
        self.stack = stack
        self.rng = rng
        self.say = say
        self.count = 0
        # Everybody is hit once before chance alone decides.
        self.order = [target for _, target, _ in TARGETS]
        rng.shuffle(self.order)

    def strike(self):
        """One blow, a pause, and the part is there again; then another pause."""
        name = self.order.pop() if self.order else \
            self.rng.choices([t for _, t, _ in TARGETS], [weight for weight, _, _ in TARGETS])[0]
        how = self.rng.choice(next(ways for _, target, ways in TARGETS if target == name))
        # A worker may stand still past its lease; for the others moments are enough.
        pause = self.rng.uniform(0.1, 9.0 if name.startswith("worker") and how == "stop" else 3.0)
        self.count += 1
        self.say(f"{how} {name} for {pause:.1f} s")
        self.stack.command(how, name)
        wait(pause)
        if how == "stop":
            self.stack.command("cont", name)
        else:
            self.stack.restart(name)
        wait(self.rng.uniform(0.1, 1.0))

    def heal(self):
        for _, name, _ in TARGETS:
            state = self.stack.state(name)
            if state == "stopped":
                self.stack.cont(name)
            elif state == "dead":
                self.stack.restart(name)


def wait(seconds):
    threading.Event().wait(seconds)
