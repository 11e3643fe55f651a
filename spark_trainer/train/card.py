"""The model card beside the weights: what the model is made of, readable by people and by hubs."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from spark_trainer.config import Run
from spark_trainer.data import licences
from spark_trainer.data.markdown import plain
from spark_trainer.families.kinds.export import Loading, local_base, saves_adapter
from spark_trainer.runs.summary import Summary
from spark_trainer.speech.models import learns_its_own
from spark_trainer.system import log

HELD_OUT = "held-out videos"
# Score -> metric, as hubs call it.
METRICS = {"bleu": "bleu", "rouge_l": "rouge", "cider": "cider", "wer": "wer", "cer": "cer"}
METHODS = {"full": "all trainable weights", "lora": "LoRA", "qlora": "QLoRA"}
HUB = "https://huggingface.co"
LINEAGE = (
    "Trained with SparkTrainer. Where it was trained, `spark-trainer lineage {run}` names every "
    "video, who captioned and transcribed it, the settings, the code and the hardware."
)
PERMISSION = "A licence that is not known is not a permission."
FOLDER = (
    "These lines load it. Where one says `final`, that is the folder of this card, or the id of a "
    "hub's repository that holds it."
)


def write(
    folder: Path, run: Run, lineage: dict[str, Any], summary: Summary, loading: Loading
) -> None:
    """Write README.md with the base and its licence, the data's digest, the scores, the code.

    Args:
        folder: where it goes.
        run: the settings.
        lineage: what the run is made of.
        summary: what came out.
        loading: how it is loaded.
    """
    terms = {} if run.from_scratch else _terms(run, loading)
    rows = [
        ("base", _shown(run)),
        ("licence of the base", "none" if run.from_scratch else _licence(terms)),
        ("learnt", METHODS[run.finetune]),
        ("data (SHA-256 of manifest.jsonl)", lineage["manifest_sha256"]),
        *_own_transcripts(run, lineage),
        ("videos trained on", summary.training_videos),
        ("videos held out", summary.validation_videos),
        *_measured_on(run),
        *_held_out(summary),
        *((f"held-out {name}", _score(name, summary)) for name in summary.scores),
        ("licences of the videos", plain(licences.told(_licences(lineage)))),
        ("updates", summary.steps),
        ("weights", f"the {run.final}" + (", averaged" if run.ema_decay else "")),
        ("code", f"SparkTrainer {lineage['spark_trainer']}, {lineage['code']}"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    head = _head(run, loading) | terms | _results(lineage["run"], loading, summary)
    text = (
        f"---\n{yaml.safe_dump(head)}---\n\n"
        f"# {lineage['run']}\n\n{LINEAGE.format(run=_folder(lineage))}\n\n"
        f"| what | value |\n|---|---|\n{table}\n\n{FOLDER}{_where(run)}\n\n"
        f"```python\n{loading.lines}\n```\n\n{PERMISSION}\n"
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _head(run: Run, loading: Loading) -> dict[str, Any]:
    """Return what hubs read; a folder of this machine would name no base there."""
    tags = ["spark-trainer", *(["lora"] if saves_adapter(run) else [])]
    head = {"library_name": loading.library, "pipeline_tag": loading.tag, "tags": tags}
    if saves_adapter(run):
        head |= {"base_model_relation": "adapter"}
    if not run.from_scratch and not local_base(run):
        head = (
            {"base_model_relation": "finetune"}
            | head
            | {"base_model": loading.base or run.model_name}
        )
    return head


def _results(name: str, loading: Loading, summary: Summary) -> dict[str, Any]:
    """Return the scores of the saved weights as hubs list them; nothing where there are none."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    found = {METRICS[key]: value for key, value in summary.scores.items() if key in METRICS}
    results = [
        EvalResult(loading.tag, "videos", HELD_OUT, key, value) for key, value in found.items()
    ]
    if not results:
        return {}
    return {"metrics": [*found], "model-index": eval_results_to_model_index(name, results)}


def _folder(lineage: dict[str, Any]) -> str:
    """Return what the run's folder is called."""
    return "-".join(filter(None, [lineage["run"], lineage.get("seal")]))


def _licences(lineage: dict[str, Any]) -> Counter[str]:
    return licences.counted(lineage.get("videos", {}).values())


def _terms(run: Run, loading: Loading) -> dict[str, Any]:
    """Return the terms of the base; its own card is asked where nobody else knows them."""
    if loading.licence:
        return {"license": loading.licence}
    return licence(loading.base or run.model_name)


def _licence(terms: dict[str, Any]) -> str:
    return plain(licences.shown(terms.get("license")))


def _shown(run: Run) -> str:
    if run.from_scratch:
        return "random weights"
    if run.base_run is not None:
        return f"the run `{Path(run.model_name).parent.name}`"
    name = local_base(run)
    return f"a local model, `{_code(name)}`" if name else run.model_name


def _code(name: str) -> str:
    """Return a folder's name as it can stand between backticks, in a cell too."""
    return plain(log.plain(name)).replace("`", "'")


def _where(run: Run) -> str:
    """Tell where the lines take the base from, if it is no hub's."""
    name = local_base(run)
    return f" The base that it was trained from is a local model, `{_code(name)}`." if name else ""


def _measured_on(run: Run) -> list[tuple[str, Any]]:
    """Return how many held-out samples count, where not all do."""
    most = run.max_eval_samples
    return [("held-out samples measured, at most", most)] if most and run.holds_out else []


def _held_out(summary: Summary) -> list[tuple[str, str]]:
    """Return what the held-out split says, where there is one."""
    if summary.first is None:
        return []
    measured = summary.objective
    return [
        (measured.words, f"{summary.first:.4f} before, {summary.last:.4f} after"),
        (
            f"{measured.extreme} {measured.words}",
            f"{summary.best:.4f} at update {summary.best_step}",
        ),
    ]


def _own_transcripts(run: Run, lineage: dict[str, Any]) -> list[tuple[str, str]]:
    """Warn where a speech model was given what it had written down itself."""
    told = [one.get("transcriber_model") for one in lineage.get("videos", {}).values()]
    own = sum(learns_its_own(run, one) for one in told)
    text = f"of {own} of {len(told)} videos by the base itself, which learns its own mistakes"
    return [("transcripts", text)] if own else []


def _score(name: str, summary: Summary) -> str:
    """Write what a score of the saved weights is, and what it was before training."""
    after, first = f"{summary.scores[name]:.4g}", summary.first_scores.get(name)
    return after if first is None else f"{first:.4g} before, {after} after"


def licence(model_name: str) -> dict[str, Any]:
    """Return the terms that a checkpoint's own card names, spelt as there.

    None where there is no card. A link that is relative leads to the base's files.
    """
    from huggingface_hub import hf_hub_download

    here = Path(model_name).expanduser()
    try:
        path = here / "README.md" if here.is_dir() else hf_hub_download(model_name, "README.md")
    except (OSError, ValueError):  # no card, or no network
        return {}
    terms = licences.of_card(Path(path))
    if not str(terms.get("license_link", HUB)).startswith(("http://", "https://")):
        link = terms.pop("license_link")
        terms |= {} if here.is_dir() else {"license_link": f"{HUB}/{model_name}/blob/main/{link}"}
    return terms if "license" in terms else {}
