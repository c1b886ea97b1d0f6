# SPDX-License-Identifier: Apache-2.0
"""The command line in a real terminal: progress, Ctrl-C and resume, narrow windows, hostile text."""

import json
import os
import re
import shutil
import subprocess
import uuid

import pytest

from conftest import running
from testenv.cli import ESCAPE, Cli, Terminal
from testenv.stack import Stack
from testenv.wait import wait_until

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed (make deps)")

BAR = r"[█░]{5,} +\d+/\d+"


@pytest.fixture(scope="module")
def stack():
    yield from running(Stack(broker="embedded"))


@pytest.fixture
def cli(stack):
    client = Cli(stack)
    yield client
    client.close()


@pytest.fixture
def terminal(cli):
    window = Terminal(cli)
    yield window
    window.close()


def unique(prefix="t"):
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def write_batch(cli, prompts, name="in.ndjson"):
    return cli.path(name, "".join(json.dumps({"prompt": text}) + "\n" for text in prompts))


def read_results(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def chat_of(text):
    return {"messages": [{"role": "user", "content": text}]}


# --- batches ------------------------------------------------------------------------------------


def test_the_progress_bar_shows_how_far_it_is_what_it_costs_and_what_failed(cli, terminal, simulator):
    gate = unique("gate")
    prompts = [f"{unique()} [[sim status=400]]" if i in (3, 7) else
               f"{unique()} [[sim tokens=400 after=1 hold={gate}]]" if i >= 20 else
               f"{unique()} [[sim tokens=500]]" for i in range(40)]
    out = cli.path("out.ndjson")
    terminal.run("batch", write_batch(cli, prompts), "-m", "single", "-o", out)
    line = terminal.wait_for(rf"{BAR} .*$").group(0)
    line = terminal.wait_for(r"20/40 .*\$0\.\d*[1-9].*$").group(0)
    assert "2 failed" in terminal.wait_for(r"20/40 .*2 failed.*$").group(0), line
    simulator.release(gate)
    assert terminal.finished() == 1
    screen = terminal.screen()
    assert re.search(r"40 lines in .*: 38 succeeded, 2 failed, 0 bad lines, \$0\.\d+", screen)
    assert not re.search(BAR, screen.split("40 lines in")[1]), "the bar is still there"
    assert len(read_results(out)) == 40


def test_rate_and_time_left_are_told(cli, terminal):
    prompts = [f"{unique()} [[sim tokens=1 delay_ms={i * 60}]]" for i in range(150)]
    terminal.run("batch", write_batch(cli, prompts), "-m", "single", "-o", cli.path("out"))
    terminal.wait_for(r"\d+/150 .* [\d.]+/s .* left")
    assert terminal.finished() == 0


def test_ctrl_c_and_the_same_command_again_take_up_where_it_stopped(cli, terminal, simulator):
    gate = unique("gate")
    prompts = [f"{unique()} [[sim tokens=5 after=1 hold={gate}]]" if i >= 25 else unique()
               for i in range(50)]
    path, out = write_batch(cli, prompts), cli.path("out.ndjson")
    terminal.run("batch", path, "-m", "single", "-o", out)
    terminal.wait_for(r"25/50")
    terminal.press("C-c")
    assert terminal.finished() == 130
    assert re.search(r"interrupted: 25 of 50 lines are over, 50 are submitted", terminal.screen())
    assert not os.path.exists(out)
    simulator.release(gate)
    terminal.clear()
    terminal.run("batch", path, "-m", "single", "-o", out)
    assert terminal.finished() == 0
    rows = read_results(out)
    assert [row["line"] for row in rows] == list(range(1, 51))
    assert all(row["state"] == "succeeded" for row in rows)
    for text in prompts:
        assert len(simulator.calls(chat_of(text))) == 1, "something was called twice"


def test_broken_lines_stand_above_the_bar(cli, terminal, simulator):
    gate = unique("gate")
    path = cli.path("in.ndjson", '{"prompt": "a"}\n{broken\n' +
                    json.dumps({"prompt": f"{unique()} [[sim tokens=4 after=1 hold={gate}]]"}) + "\n")
    terminal.run("batch", path, "-m", "single", "-o", cli.path("out"))
    terminal.wait_for(r"2/3 ")
    lines = [line for line in terminal.screen().splitlines() if line.strip()]
    told = [i for i, line in enumerate(lines) if line.startswith("line 2: ")]
    assert told and re.search(r"2/3 ", lines[-1]) and told[0] < len(lines) - 1
    simulator.release(gate)
    assert terminal.finished() == 1


def test_a_narrow_window_keeps_the_bar_on_one_line(cli, simulator):
    gate = unique("gate")
    prompts = [f"{unique()} [[sim tokens=5 after=1 hold={gate}]]" for _ in range(10)]
    window = Terminal(cli, width=24, height=30)
    try:
        window.run("batch", write_batch(cli, prompts), "-m", "single", "-o", cli.path("out"))
        window.wait_for(r"^\S* ?0/10")
        wait_until(lambda: simulator.holding(gate) == 10, 20, "the calls")
        # Redrawn many times, and still one line.
        for _ in range(3):
            before = window.screen()
            window.wait_for(r"0/10")
            assert window.screen().count("0/10") == 1, before
        window.resize(100)
        window.wait_for(BAR)
        window.resize(16)
        simulator.release(gate)
        window.resize(60)
        assert window.finished() == 0
    finally:
        window.close()


def test_without_a_terminal_there_is_no_bar(cli):
    path = write_batch(cli, [unique() for _ in range(20)])
    done = cli.run("batch", path, "-m", "single", "--wait")
    assert ESCAPE not in done.stdout + done.stderr and "\r" not in done.stderr
    assert not re.search(BAR, done.stderr)
    assert "20 succeeded" in done.stderr
    # No terminal at all, not even to open: as from cron.
    done = subprocess.run(["setsid", "--wait", cli.program, "batch", path, "-m", "single", "--wait"],
                          capture_output=True, text=True, env=cli.environment, check=False,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 20


# --- output -------------------------------------------------------------------------------------


def test_tables_fit_the_window(cli, api):
    for _ in range(3):
        api.ended(cli.out("submit", "-m", "single", "x", "--workflow", "w" * 60))
    for width in (40, 80, 140):
        window = Terminal(cli, width=width)
        try:
            window.run("list", "--limit", "3")
            assert window.finished() == 0
            lines = window.screen().split("rc=0.")[0].splitlines()
            if width == 40:
                assert any(re.match(r"workflow +w", line) for line in lines), "records, where it is narrow"
                continue
            # Where the terminal had broken a line, its rest would stand in one of its own.
            rows = [line for line in lines if re.match(r"job_[0-9a-f]{32} ", line)]
            assert len(rows) >= 3 and lines.index(rows[2]) - lines.index(rows[0]) == 2, window.screen()
        finally:
            window.close()


def test_colours_are_for_terminals_that_want_them(stack, cli, terminal):
    terminal.run("queues")
    assert terminal.finished() == 0
    assert ESCAPE in terminal.screen(colours=True)
    for environment in ({"NO_COLOR": "1"},):
        plain = Cli(stack, **environment)
        window = Terminal(plain)
        try:
            window.run("queues")
            assert window.finished() == 0
            assert ESCAPE not in window.screen(colours=True)
        finally:
            window.close()
            plain.close()


def test_the_text_of_a_job_cannot_drive_the_terminal(cli, terminal):
    hostile = "before \x1b[2J\x1b]0;owned\x07\x1b[31mred \u202eback\u009b1m after"
    text = f"{hostile} [[sim echo=1]]"
    job = cli.out("submit", "-m", "single", text, "--metadata", "a=\x1b[8mhidden")
    piped = cli.out("watch", job)
    assert "\x1b[2J" in piped, "in a pipe the text is what it is"
    for words in (["get", job], ["get", job, "--text"], ["watch", job], ["get", job, "--wait"],
                  ["submit", "-m", "single", "-f", cli.path("p", text), "--stream"],
                  ["watch", job, "--json"], ["get", job, "--json"]):
        terminal.clear()
        terminal.run(*words)
        assert terminal.finished() == 0
        screen = terminal.screen()
        assert "before" in screen and "after" in screen, (words, screen)
        assert re.search(r"\\(x1b|u001b)\[2J", screen, re.I), (words, screen)
        assert "\x1b[31m" not in terminal.screen(colours=True), words
        assert "\u202e" not in screen and "\u009b" not in screen
    title = terminal.tmux("display-message", "-p", "#{pane_title}").strip()
    assert title != "owned"


def test_a_stream_is_seen_while_it_is_written(cli, terminal, simulator):
    gate = unique("gate")
    terminal.run("submit", "-m", "single", f"{unique()} [[sim tokens=12 after=4 hold={gate}]]", "--stream")
    wait_until(lambda: simulator.holding(gate), 20, "the call")
    wait_until(lambda: len(terminal.screen().split("echo rc=$?.")[-1].split()) == 4, 20, "four words")
    simulator.release(gate)
    assert terminal.finished() == 0


# --- completion ---------------------------------------------------------------------------------


def complete(terminal, tabs, line, *wanted):
    """Types the line and presses TAB so many times; each wanted is then seen."""
    terminal.press("C-c")  # a shell may drop what is typed before it has dealt with this
    wait_until(lambda: terminal.screen(history=False).strip().splitlines()[-1:] == ["ready>"], 20, "a new prompt")
    terminal.press("C-l")
    wait_until(lambda: terminal.screen(history=False).strip() == "ready>", 20, "a clear screen")
    terminal.tmux("send-keys", "-l", line)
    terminal.wait_for(re.escape(line.rstrip()))
    for _ in range(tabs):
        terminal.press("Tab")
    wait_until(lambda: all(re.search(rf"(^|\s){re.escape(word)}(\s|$)", terminal.screen(history=False), re.M)
                           for word in wanted), 20, f"{line!r}: {wanted}")


def start_shell(cli, terminal, shell):
    os.symlink(cli.program, cli.path("nightshift"))
    cli.path("_nightshift", cli.run("completion", shell).stdout)
    cli.path(".zshrc", f"PS1='ready> '; PATH={cli.home}:$PATH; fpath=({cli.home} $fpath)\n"
                       "autoload -Uz compinit; compinit -u -D; bindkey -e\n")
    cli.path("bashrc", f"PS1='ready> '; PATH={cli.home}:$PATH; . {cli.home}/_nightshift\n"
                       "bind 'set bell-style none' 'set page-completions off'\n")
    command = {"zsh": f"ZDOTDIR={cli.home} exec zsh -d -i",
               "bash": f"exec bash --noprofile --rcfile {cli.path('bashrc')} -i"}[shell]
    terminal.type(command)
    terminal.wait_for(r"^ready>")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_tab_completes_in_a_real_shell(cli, shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed (make deps)")
    window = Terminal(cli, width=160, height=50)
    tabs = {"bash": 2, "zsh": 1}[shell]  # until all are listed; zsh shows no list while another key waits
    try:
        start_shell(cli, window, shell)
        complete(window, tabs, "nightshift ", "submit", "batch", "limits", "doctor", "audit", "completion")
        complete(window, tabs, "nightshift submit --", "--model", "--stream", "--idempotency-key", "--json")
        complete(window, tabs, "nightshift limits ", "get", "set")
        complete(window, tabs, "nightshift limits set acme --budget-", "--budget-day", "--budget-month")
        complete(window, tabs, "nightshift list --state ", "queued", "running", "succeeded", "expired")
        complete(window, tabs, "nightshift completion ", "bash", "zsh")
        complete(window, tabs, "nightshift doct", "doctor")
        cli.path("prompts-of-today.ndjson", "")
        complete(window, tabs, f"nightshift batch {cli.home}/prompts-of", f"{cli.home}/prompts-of-today.ndjson")
        complete(window, tabs, f"nightshift submit -f {cli.home}/prompts-of", f"{cli.home}/prompts-of-today.ndjson")
    finally:
        window.close()


def test_help_and_usage_errors_read_well(terminal):
    terminal.run("submit", "--modle", "x")
    assert terminal.finished() == 2
    assert "did you mean --model?" in terminal.screen()
    terminal.clear()
    terminal.run("queues", "--help")
    assert terminal.finished() == 0
    assert "Usage: nightshift queues" in terminal.screen()
