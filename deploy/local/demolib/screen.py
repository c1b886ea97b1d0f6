# SPDX-License-Identifier: Apache-2.0
"""What the demo shows: colours and live lines on a terminal, plain lines anywhere else."""

import os
import shutil
import sys
import textwrap
import time

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PLAIN_EVERY_S = 1.0
MARGIN = 2


class Screen:
    def __init__(self, stream=None):
        self.stream = stream or sys.stdout
        self.is_terminal = self.stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.has_colour = self.is_terminal and not os.environ.get("NO_COLOR")
        self.is_wide = (self.stream.encoding or "").lower().replace("-", "") == "utf8"
        self.has_live_line = False
        self.last_plain = 0.0
        self.started = time.monotonic()

    def paint(self, text, *styles):
        if not self.has_colour or not styles:
            return text
        return f"\x1b[{';'.join(STYLES[style] for style in styles)}m{text}\x1b[0m"

    def width(self):
        """Columns to use: of the terminal, but no wider than reads well."""
        return max(40, min(shutil.get_terminal_size((80, 24)).columns, 96))

    def write(self, text):
        if not self.is_wide:
            text = text.translate({ord(a): b for a, b in zip("✓✗━─│·→…█░×—", "+x--|->~#.x-")})
            text = text.encode(self.stream.encoding or "ascii", "replace").decode(
                self.stream.encoding or "ascii")
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError:  # the terminal is gone: what was begun is stopped all the same
            self.stream = open(os.devnull, "w", encoding="utf-8")

    def line(self, text=""):
        self.clear_live()
        self.write(text + "\n")

    # --- what scenes say ------------------------------------------------------------------------

    def scene(self, number, title, text):
        rule = "─" * max(3, self.width() - len(title) - 6)
        self.line()
        self.line(f"{self.paint(str(number), 'bold', 'cyan')}  {self.paint(title, 'bold')}  "
                  f"{self.paint(rule, 'dim')}")
        self.say(text, "dim")

    def say(self, text, *styles):
        for part in textwrap.wrap(" ".join(text.split()), self.width() - MARGIN):
            self.line(" " * MARGIN + self.paint(part, *styles))

    def good(self, text):
        self.mark(self.paint("✓", "green"), text)

    def bad(self, text):
        self.mark(self.paint("✗", "red", "bold"), text)

    def mark(self, sign, text):
        parts = textwrap.wrap(" ".join(text.split()), self.width() - MARGIN - 2)
        for index, part in enumerate(parts):
            self.line(" " * MARGIN + (f"{sign} " if index == 0 else "  ") + part)

    def row(self, *cells):
        """Cells of (text, width, styles...); a negative width aligns right."""
        done = []
        for text, width, *styles in cells:
            padded = text.ljust(width) if width >= 0 else text.rjust(-width)
            done.append(self.paint(padded, *styles))
        self.line((" " * (MARGIN + 2) + "  ".join(done)).rstrip())

    # --- live lines -----------------------------------------------------------------------------

    def live(self, text, is_last=False):
        """One line that is written over by the next; elsewhere a line a second, and the last."""
        if self.is_terminal:
            frame = SPINNER[int(time.monotonic() * 10) % len(SPINNER)] if self.is_wide else "*"
            sign = "  " if is_last else self.paint(frame, "cyan") + " "
            self.write(f"\r\x1b[2K{' ' * MARGIN}{sign}{text[:self.width() - MARGIN - 2]}")
            self.has_live_line = True
            if is_last:
                self.has_live_line = False
                self.write("\n")
        elif is_last or time.monotonic() - self.last_plain >= PLAIN_EVERY_S:
            self.last_plain = time.monotonic()
            self.line(" " * (MARGIN + 2) + text)

    def clear_live(self):
        if self.has_live_line:
            self.has_live_line = False
            self.write("\r\x1b[2K")

    def bar(self, done, total, width=24):
        """A bar of a fixed number of cells."""
        full = width * done // max(1, total)
        return "█" * full + "░" * (width - full)


class TextFlow:
    """Text that comes in pieces, wrapped at the margin while it comes."""

    def __init__(self, screen, *styles):
        self.screen = screen
        self.styles = styles
        self.column = 0
        self.word = ""

    def add(self, text):
        for letter in text:
            if letter in " \n":
                self.flush_word()
                if letter == "\n":
                    self.new_line()
            else:
                self.word += letter

    def flush_word(self):
        if not self.word:
            return
        room = self.screen.width() - 4
        if self.column and self.column + 1 + len(self.word) > room:
            self.new_line()
        lead = " " if self.column else " " * 4
        self.screen.write(lead + self.screen.paint(self.word, *self.styles))
        self.column += len(self.word) + (1 if self.column else 0)
        self.word = ""

    def new_line(self):
        self.screen.write("\n")
        self.column = 0

    def end(self):
        self.flush_word()
        if self.column:
            self.new_line()
