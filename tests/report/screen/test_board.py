"""Rows of a build, by what Snakemake says of jobs and jobs of themselves."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_trainer.report.screen.board import Board, lasting


class Clock:
    """A clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def board(**jobs: int) -> tuple[Board, Clock]:
    clock = Clock()
    made = Board(clock)
    made.plan({**jobs, "all": 1, "total": sum(jobs.values()) + 1})
    return made, clock


def told(name: str, done: int, total: int, unit: str = "video", **more: Any) -> str:
    said = {"job": f"{name}.log", "name": name, "done": done, "total": total, "unit": unit}
    return json.dumps(said | {"process": "here-1", "note": ""} | more)


def shown(made: Board) -> dict[str, str]:
    return {row.name: text for row, text in made.shown()}


def test_rows_stand_in_the_order_of_the_steps() -> None:
    made, _ = board(train_run=2, manifest_join=1, caption_shard=3, manifest_part=4, frames_shard=1)
    assert shown(made) == {
        "frames": "1 job",
        "caption": "3 jobs",
        "manifest": "5 jobs",
        "train": "2 jobs",
    }
    assert list(shown(made)) == ["frames", "caption", "manifest", "train"]


def test_videos_rate_and_the_time_left() -> None:
    made, clock = board(frames_shard=2)
    made.start(1, "frames_shard")
    clock.now += 10
    made.tell(told("frames", 20, 40))
    assert shown(made) == {"frames": "20 of 40 videos, 2.0/s, 0 of 2 jobs, about 30 s left"}
    made.tell(told("frames", 40, 40))
    assert made.finish(1) is None
    made.start(2, "frames_shard")
    made.tell(told("frames", 0, 8, job="other"))
    clock.now += 2
    made.tell(told("frames", 8, 8, job="other"))
    row = made.finish(2)
    assert row is not None
    assert shown(made) == {"frames": "48 videos in 12 s"}


def test_a_run_that_goes_on_counts_from_where_it_was() -> None:
    made, clock = board(train_run=1)
    made.start(1, "train_run")
    clock.now += 60  # it loads its weights
    made.tell(told("train/slow", 47, 200, "update"))
    clock.now += 10
    made.tell(told("train/slow", 57, 200, "update", note="loss 2.5"))
    assert shown(made) == {"train": "slow: 57 of 200 updates, loss 2.5, about 2 min 23 s left"}


def test_jobs_of_a_cluster_wait_before_they_are_at_work() -> None:
    made, clock = board(frames_shard=3)
    made.submits = True
    made.start(1, "frames_shard")
    made.start(2, "frames_shard")
    made.tell(told("frames", 0, 40))
    clock.now += 5
    at = "0 of 40 videos, 0 of 3 jobs, 2 submitted, 1 of them at work, 5 s"
    assert shown(made) == {"frames": at}


def test_a_failed_job_is_counted_until_it_is_tried_again() -> None:
    made, clock = board(frames_shard=1)
    made.start(7, "frames_shard")
    clock.now += 3
    assert made.fail(7) is made.rows["frames"]
    assert shown(made) == {"frames": "1 failed"}
    made.start(7, "frames_shard")
    assert shown(made) == {"frames": "3 s"}
    made.finish(7)
    assert shown(made) == {"frames": "1 job in 3 s"}


def test_a_run_that_is_tried_again_stands_once() -> None:
    made, clock = board(train_run=1)
    made.start(1, "train_run")
    made.tell(told("train/slow", 4, 40, "update", note="loss nan"))
    made.fail(1)
    made.start(1, "train_run")
    clock.now += 10
    made.tell(told("train/slow", 2, 40, "update", process="here-2"))
    clock.now += 10
    made.tell(told("train/slow", 12, 40, "update", process="here-2"))
    assert shown(made) == {"train": "slow: 12 of 40 updates, about 28 s left"}


LYING = ({"done": "x"}, {"total": None}, {"done": float("inf")}, {"job": []}, {"note": 7})


@pytest.mark.parametrize("values", LYING)
def test_a_line_of_other_types_ends_nothing(values: dict[str, Any]) -> None:
    made, _ = board(frames_shard=1)
    made.start(1, "frames_shard")
    made.tell(json.dumps(json.loads(told("frames", 1, 2)) | values))
    assert list(shown(made)) == ["frames"]


@given(st.text() | st.from_type(dict).map(repr))
def test_what_is_no_line_of_a_job_changes_nothing(line: str) -> None:
    made, _ = board(frames_shard=1)
    made.tell(line)
    made.tell(told("frames", 1, 2)[:-3])
    made.tell("{}")
    made.tell(json.dumps([line]))
    assert shown(made) == {"frames": "1 job"}


def test_durations() -> None:
    assert [lasting(one) for one in (0.4, 59, 60, 61, 3_600, 7_385)] == [
        *("0 s", "59 s", "1 min 00 s", "1 min 01 s", "1 h 00 min", "2 h 03 min")
    ]
