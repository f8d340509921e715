"""The bar: only on a terminal, only after a second."""

import pytest

from dps_jax.cli import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def _work(clock, seconds_per_step, name="restoring a[1].tif"):
    with progress.LateProgress(name) as report:
        for done in range(1, 6):
            clock[0] += seconds_per_step
            report(done, 5)


def test_slow_work_shows_a_bar(clock, terminal, capsys):
    _work(clock, 0.6)
    out, err = capsys.readouterr()
    assert out == ""
    assert "restoring a[1].tif" in err  # whole: square brackets are no markup
    assert "%" in err


def test_fast_work_shows_none(clock, terminal, capsys):
    _work(clock, 0.19)
    assert capsys.readouterr() == ("", "")


def test_the_last_step_opens_none(clock, terminal, capsys):
    with progress.LateProgress("restoring") as report:
        clock[0] += 5
        report(1, 1)
    assert capsys.readouterr() == ("", "")


def test_no_bar_in_a_log_file(clock, monkeypatch, capsys):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    _work(clock, 0.6)
    assert capsys.readouterr() == ("", "")


def _interrupted_work(clock):
    with progress.LateProgress("restoring") as report:
        clock[0] += 2
        report(1, 5)
        raise KeyboardInterrupt


def test_the_bar_is_closed_by_an_error(clock, terminal, capsys):
    with pytest.raises(KeyboardInterrupt):
        _interrupted_work(clock)
    assert capsys.readouterr().err.endswith("\x1b[2K")  # the line is wiped
