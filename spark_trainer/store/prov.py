"""Lineage in the words of W3C PROV, for tools that read PROV-JSON.

A run, a step and a removal are activities; videos, results, manifests and trained models are
entities; who captions, transcribes and trains are agents. What is said of each, beside how it hangs
together, has our own prefix. https://www.w3.org/TR/prov-dm/, https://openprovenance.org/prov-json/
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spark_trainer.data.files import canonical_json
from spark_trainer.store.lineage import NAMING, Link

if TYPE_CHECKING:
    from prov.model import ProvDocument

OURS = "urn:x-spark-trainer:"
# What a name stands for; each is a prefix of its own.
KINDS = ("run", "model", "manifest", "video", "result", "step", "agent", "removal")

Said = Mapping[str, Any]


def of_run(said: Said, videos: Mapping[str, str]) -> str:
    """Return where a run comes from and what came of it, as PROV-JSON on one line.

    Args:
        said: what `lineage.of_run` told.
        videos: hash -> the split that the run has the video in.
    """
    document = _document()
    run, data = f"run:{said['run']}", f"manifest:{said['manifest_sha256']}"
    facts = ("python", "packages", "machine", "nodes", "processes", "device", "gpus")
    document.activity(run, None, None, _facts({key: said[key] for key in facts}))
    code = {key: said[key] for key in ("spark_trainer", "code", "code_diff")}
    document.agent("agent:spark-trainer", _facts(code))
    document.wasAssociatedWith(run, "agent:spark-trainer")
    document.collection(data)
    document.used(run, data)
    for video, split in videos.items():
        document.entity(f"video:{video}", _facts({"split": split}))
        document.hadMember(data, f"video:{video}")
    for step, made in said["made_by"].items():
        document.wasInfluencedBy(data, _step(document, step, made))
    for kind in ("captions", "transcripts"):
        for number, (who, count) in enumerate(sorted(said[kind].items())):
            agent = f"agent:{kind}-{number}"
            document.agent(agent, _facts({"name": who, kind: count}))
            document.wasAttributedTo(data, agent)
    links = [Link(**link) for link in [*said["before"], *said["after"]]]
    for name in dict.fromkeys([said["run"], *(end for one in links for end in one.ends)]):
        document.entity(f"model:{name}")
        document.wasGeneratedBy(f"model:{name}", f"run:{name}")
        if name != said["run"]:
            document.activity(f"run:{name}")
    _derive(document, links)
    return _spelled(document)


def of_clip(said: Said, links: list[Link]) -> str:
    """Return all that derives from a video, and who saw it, as PROV-JSON on one line.

    Args:
        said: what `lineage.of_clip` told.
        links: how the runs that saw it, and those that come from them, come from each other.
    """
    document, video = _document(), f"video:{said['video']}"
    document.entity(video, _facts({"files": said["files"], "manifest": said["manifest"]}))
    for step, record in said["records"].items():
        result = f"result:{said['video']}/{step}"
        document.entity(result, _facts({k: v for k, v in record.items() if k not in NAMING}))
        document.wasDerivedFrom(result, video)
        document.wasGeneratedBy(result, _step(document, step, record))
    for sha256 in said["past_manifests"]:
        document.collection(f"manifest:{sha256}")
        document.hadMember(f"manifest:{sha256}", video)
    for name in [*said["runs"], *said["through"]]:
        document.activity(f"run:{name}")
        document.entity(f"model:{name}")
        document.wasGeneratedBy(f"model:{name}", f"run:{name}")
    for name, split in said["runs"].items():
        document.used(f"run:{name}", video, other_attributes=_facts({"split": split}))
    _derive(document, links)
    if gone := said["forgotten"]:
        removal, at = f"removal:{said['video']}", gone["at"]
        document.activity(removal, at, None, _facts({key: gone[key] for key in ("by", "reason")}))
        document.wasInvalidatedBy(video, removal, at)
    return _spelled(document)


def _document() -> "ProvDocument":
    from prov.model import ProvDocument

    document = ProvDocument()
    document.add_namespace("spark", OURS)
    for kind in KINDS:
        document.add_namespace(kind, f"{OURS}{kind}:")
    return document


def _step(document: "ProvDocument", step: str, made: Said) -> str:
    """Add the activity of a step under its settings; returns its name."""
    name = f"step:{step}.{made['fingerprint']}"
    document.activity(name, None, None, _facts({"settings": made.get("settings")}))
    return name


def _derive(document: "ProvDocument", links: list[Link]) -> None:
    """Add how runs come from each other: their models do, and what they learn from."""
    for link in links:
        how = _facts({"how": link.how})
        later, earlier = f"model:{link.later}", f"model:{link.earlier}"
        document.wasDerivedFrom(later, earlier, f"run:{link.later}", other_attributes=how)


def _facts(values: Said) -> dict[str, Any]:
    """Return facts under our prefix: numbers and texts as they are, all else as its JSON."""
    plain = (str, int, float)
    return {
        f"spark:{key}": value if isinstance(value, plain) else canonical_json(value)
        for key, value in values.items()
        if value not in (None, "", [], {})
    }


def _spelled(document: "ProvDocument") -> str:
    return str(document.serialize(format="json"))
