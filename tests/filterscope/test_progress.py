"""The bar at a terminal."""

import io
import sys

from filterscope.commands.progress import choose


class Screen(io.StringIO):
    """A terminal that keeps what it shows."""

    def isatty(self):
        return True


def test_a_terminal_shows_stage_and_count_and_is_left_clean(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    for name, value in {"TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    bar = choose(quiet=False, json_log=False)
    bar.stage("proving", 4)
    bar.advance(3)
    bar.close()
    shown = screen.getvalue()
    assert "proving" in shown
    assert "3/4" in shown
    assert "/s" in shown
    assert shown.endswith("\x1b[2K")  # the line is erased
