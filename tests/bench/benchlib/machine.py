# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of processes, and how fast the disk commits."""

import os
import statistics
import time

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(service):
    """User and system time of a part's processes, those that ended included."""
    total = 0
    for pid in service.process.family():
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def status_mb(pid, field):
    """A line of /proc/PID/status in MB: VmRSS now, VmHWM at most so far."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) / 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0.0


def rss_mb(service):
    """Of each of a part's processes, largest first."""
    return sorted((status_mb(pid, "VmRSS") for pid in service.process.family()), reverse=True)


def fsync_ms(folder, rounds=200):
    """Median time of appending 8 KiB and making it durable: what a commit cannot be faster than."""
    path = os.path.join(folder, "fsync")
    times = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(rounds):
            begun = time.perf_counter()
            file.write(b"x" * 8192)
            os.fdatasync(file.fileno())
            times.append(1000 * (time.perf_counter() - begun))
    os.unlink(path)
    return statistics.median(times)


def percentile(values, part):
    ordered = sorted(values)
    return ordered[round(part * (len(ordered) - 1))] if ordered else 0.0
