"""What a run is made of: clips, who captioned and transcribed them, code, packages, hardware."""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spark_trainer import __version__, methods
from spark_trainer.data import licences, manifest
from spark_trainer.data.files import Broken, file_digest, read_json
from spark_trainer.data.layout import Layout
from spark_trainer.data.licences import UNKNOWN
from spark_trainer.runs.spec import LaunchedRun
from spark_trainer.system import environment, gpu, origin

PACKAGES = ("accelerate", "deepspeed", "diffusers", "peft", "torch", "torchvision", "transformers")
CODE = (".", "../rules", "../Snakefile")  # as git names them from the package's folder


def of(launched: LaunchedRun, data: Path, made_by: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a run on a manifest as `lineage.json` holds it.

    Args:
        launched: the run.
        data: the manifest.
        made_by: the steps behind it; see `steps`.
    """
    videos = {
        entry["id"]: {
            "source_path": entry["meta"].get("source_path"),
            "captioner": entry["meta"].get("captioner"),
            "captioner_model": entry["meta"].get("captioner_model"),
            "transcriber_model": entry["meta"].get("transcriber_model"),
            **({"corrected": by_hand} if (by_hand := entry["meta"].get("corrected")) else {}),
            **({"license": terms} if (terms := licences.of(entry["meta"])) != UNKNOWN else {}),
        }
        for entry in manifest.read(data)
    }
    return {
        "run": launched.name,
        "seal": launched.run_id,
        "continued_from": launched.continued_from,
        **({"base_run": launched.base_run} if launched.base_run else {}),
        "manifest_sha256": file_digest(data),
        "model_name": launched.settings.model_name,
        "videos": videos,
        "made_by": made_by,
        "spark_trainer": __version__,
        "code": origin.commit(),
        "packages": environment.versions(PACKAGES),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "objective": asdict(methods.find(launched.settings.model_type).objective),
        "device": launched.device,
        "nodes": launched.nodes,
        "processes": launched.processes,
        "gpus": [str(found) for found in gpu.devices()],
    }


def steps(layout: Layout, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Return step -> its settings, as far as the store has them, and their fingerprint."""
    found = {}
    for step, fingerprint in fingerprints.items():
        try:
            kept = read_json(layout.settings(step, fingerprint), dict)["settings"]
        except (OSError, Broken, KeyError):
            kept = None
        found[step] = {"fingerprint": fingerprint, "settings": kept}
    return found


def code_diff() -> str:
    """Return what the code differs by from its commit, new files too; nothing outside a checkout.

    The code is the package, the rules and the Snakefile.
    """
    changed = origin.git("diff", "HEAD", "--", *CODE) or ""
    added = origin.git("ls-files", "--others", "--exclude-standard", "-z", "--", *CODE) or ""
    return changed + "".join(
        origin.git("diff", "--no-index", "--", os.devnull, name) or ""
        for name in added.split("\0")
        if name
    )
