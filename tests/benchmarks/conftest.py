"""One table of all figures, at the end of ``make bench``: measured, wanted, and whether that was met.

A benchmark fails where it breaks or where what it compares is not alike; a figure that misses what was wanted lets the
others be measured and printed, and fails the run at its end.
"""

import math

import pytest

FIGURES = pytest.StashKey[list]()


def pytest_configure(config):
    """Begin without figures."""
    config.stash[FIGURES] = []


@pytest.fixture
def figure(request):
    """Return ``figure(what, value, unit="", at_least=None, at_most=None)``, which puts a line into the table."""

    def add(what, value, unit="", *, at_least=None, at_most=None):
        assert math.isfinite(value), f"{what}: expected a number, found {value}"
        wanted, met = "", ""
        if at_least is not None:
            wanted, met = f">= {at_least:g}", "met" if value >= at_least else "MISSED"
        elif at_most is not None:
            wanted, met = f"<= {at_most:g}", "met" if value <= at_most else "MISSED"
        request.config.stash[FIGURES].append((what, f"{value:.4g} {unit}".strip(), wanted, met))

    return add


def pytest_terminal_summary(terminalreporter, config):
    """Print the table."""
    rows = [("figure", "measured", "wanted", ""), *config.stash[FIGURES]]
    if len(rows) > 1:
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        terminalreporter.section("figures")
        for row in rows:
            terminalreporter.write_line(
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            )


def pytest_sessionfinish(session, exitstatus):
    """Fail a run with a missed figure, after all were measured."""
    if exitstatus == pytest.ExitCode.OK and any(row[3] == "MISSED" for row in session.config.stash[FIGURES]):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
