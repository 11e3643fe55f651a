"""What a run folder says, and which run a user means."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spark_trainer.data.files import canonical_json, read_json
from spark_trainer.errors import UserError

SCORES = ("bleu", "rouge_l", "cider")
NAMED = 10  # things of a kind that a list names; the others are counted

Values = dict[str, Any]  # dotted key -> plain value


class RunError(UserError, ValueError):
    """A run that can't be read, or a name that means no run or several; the message says which."""


@dataclass(frozen=True)
class Record:
    """One run, finished or not.

    `started` is in seconds since 1970; where an interrupted run was taken up again, since then.
    `results` are the counts, losses (nats per token) and scores that are known so far, `origin`
    is the code, the packages and the hardware.
    """

    folder: Path
    started: float
    finished: bool
    parameters: Values
    results: Values
    origin: Values
    manifest_sha256: str
    clips: int

    @property
    def name(self) -> str:
        """`<run>-<seal>`, as its folder is called."""
        return self.folder.name

    def json(self) -> str:
        """Everything known about the run, on one line."""
        return canonical_json(asdict(self) | {"run": self.name, "folder": str(self.folder)})


def find(folders: Iterable[Path]) -> tuple[list[Record], list[str]]:
    """The runs directly below the folders, oldest first, and a line for each unreadable one."""
    records, complaints = [], []
    for path in (path for folder in folders for path in folder.glob("*/run.json")):
        try:
            records.append(read(path.parent))
        except RunError as error:
            complaints.append(f"left out: {error}")
    return sorted(records, key=lambda record: (record.started, record.name)), complaints


def read(folder: Path) -> Record:
    """Read one run folder.

    Raises:
        RunError: a file of it is missing or damaged.
    """
    try:
        return _read(folder)
    except (OSError, ValueError) as error:
        raise RunError(f"{folder}: {error}") from None
    except KeyError as error:
        raise RunError(f"{folder}: no {error} in run.json or lineage.json") from None


def _read(folder: Path) -> Record:
    order, lineage = read_json(folder / "run.json"), read_json(folder / "lineage.json")
    results, trained = _results(folder / "metrics.jsonl"), folder / "trained.json"
    if trained.exists():
        results |= {
            key: value
            for key, value in read_json(trained).items()
            if isinstance(value, int | float) and key not in lineage
        }
    elsewhere = ("manifest_sha256", "model_name", "run", "seal", "videos")
    return Record(
        folder=folder,
        started=(folder / "run.json").stat().st_mtime,
        finished=trained.exists(),
        parameters=_flat(order["settings"]),
        results=results,
        origin=_flat({key: value for key, value in lineage.items() if key not in elsewhere}),
        manifest_sha256=lineage["manifest_sha256"],
        clips=len(lineage["videos"]),
    )


def choose(records: Sequence[Record], wanted: str) -> Record:
    """The run meant by a folder's path, `<run>-<seal>`, a name, a seal, or the beginning of one.

    Raises:
        RunError: nothing, or more than one, answers to it; the message lists the candidates.
    """
    if (Path(wanted) / "run.json").is_file():
        return read(Path(wanted).resolve())
    names = {record.folder: (record.name, *record.name.rsplit("-", 1)) for record in records}
    whole = [run for run in records if wanted in names[run.folder]]
    begun = [run for run in records if any(n.startswith(wanted) for n in names[run.folder])]
    found = whole or begun
    if len(found) == 1:
        return found[0]
    meant = "more than one run" if found else "no run"
    listed = "".join(f"\n  {line}" for line in some(str(run.folder) for run in found or records))
    raise RunError(f"{wanted!r} is {meant}; expected one of:{listed or ' none is there'}")


def some(things: Iterable[str]) -> list[str]:
    """The first few, and how many more there are."""
    every = list(things)
    more = [f"and {len(every) - NAMED} more"] if len(every) > NAMED else []
    return every[:NAMED] + more


def _results(path: Path) -> Values:
    """Steps, losses and scores of `metrics.jsonl`, under the names that `trained.json` uses."""
    found: Values = {}
    for line in _lines(path):
        found["steps"] = line["step"]
        found |= {key: line[key] for key in SCORES if line.get(key) is not None}
        loss = line.get("held_out_loss")
        if loss is not None:
            found = {"first_loss": loss} | found | {"last_loss": loss}
            if loss < found.get("best_loss", float("inf")):
                found |= {"best_loss": loss, "best_step": line["step"]}
    return found


def _lines(path: Path) -> Iterator[Values]:
    """The lines that are whole: a crash may have cut the last one short."""
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _flat(values: Values, prefix: str = "") -> Values:
    """Sections as dotted keys: `{"split": {"seed": 0}}` as `{"split.seed": 0}`."""
    flat: Values = {}
    for key, value in values.items():
        inside = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if inside else {f"{prefix}{key}": value}
    return flat
