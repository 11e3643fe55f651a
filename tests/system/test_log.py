"""One log for a command and its jobs."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spark_trainer.system import log


@pytest.fixture(autouse=True)
def fresh_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working folder without a log, and the handlers closed afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(log.LOG_VARIABLE, "")
    monkeypatch.delenv(log.LOG_VARIABLE)
    yield
    for handler in log.logger.handlers:
        handler.close()
    log.logger.handlers = []
    os.environ.pop(log.LOG_VARIABLE, None)


def test_a_command_names_its_file_and_jobs_inherit_it(tmp_path: Path) -> None:
    path = log.name_file()
    assert path.name == "spark_trainer.log"
    assert path.parent.parent == tmp_path / "runs/logs"
    assert log.name_file() == path
    code = "from spark_trainer.system import log; print(log.name_file())"
    job = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert job.stdout.strip() == str(path)


def test_two_commands_of_one_second_have_two_files() -> None:
    names = set()
    for _ in range(3):
        path = log.name_file()
        path.parent.mkdir(parents=True)
        names.add(path)
        del os.environ[log.LOG_VARIABLE]
    assert len(names) == 3


def test_a_job_writes_to_both_files_and_warns_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job_log = tmp_path / "logs/frames/one.log"
    log.start("frames one", job_log)
    log.logger.info("all well")
    log.logger.warning("half of it is broken: %s", os.fsdecode(b"caf\xe9.mp4"))
    for path in (job_log, log.name_file()):
        text = path.read_text(encoding="utf-8")
        assert "INFO frames one" in text
        assert "INFO all well" in text
        assert "WARNING half of it is broken" in text
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "half of it is broken" in shown.err
    assert "all well" not in shown.err


def test_commands_append_to_one_file() -> None:
    log.start("first")
    log.start("second")
    lines = log.name_file().read_text(encoding="utf-8").splitlines()
    assert [line.split()[-1] for line in lines] == ["first", "second"]


def test_names_can_t_steer_a_terminal_or_forge_a_line() -> None:
    assert log.plain("caf\u00e9 \x1b[31m\nfailed: \u202e\udcff") == (
        "caf\u00e9 \\x1b[31m\\nfailed: \\u202e\\udcff"
    )


def test_facts_name_what_reads_videos() -> None:
    log.start("facts")
    log.facts()
    text = log.name_file().read_text(encoding="utf-8")
    assert re.search(r"PyAV \d+\.\d+\.\d+: libavutil \d+\.", text)
    assert "gpu: " in text


def test_a_trace_is_in_the_files_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an error that is caught here, and of one that another process told as text."""
    log.start("caption", tmp_path / "job.log")
    try:
        raise IndexError("out of range")
    except IndexError as error:
        log.logger.error("caption %s", "aa", exc_info=error)
    log.logger.error("caption bb: no luck", extra={log.TRACE: "Traceback (…):\n  there"})
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(" ERROR caption aa: unexpected IndexError: out of range")
    assert second.endswith(" ERROR caption bb: no luck")
    for path in (tmp_path / "job.log", log.name_file()):
        text = path.read_text(encoding="utf-8")
        assert text.count("Traceback (") == 2
        assert text.endswith("caption bb: no luck\nTraceback (…):\n  there\n")
