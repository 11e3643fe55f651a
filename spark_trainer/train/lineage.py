"""What a run is made of: clips, who captioned and transcribed them, code, packages, hardware."""

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spark_trainer import __version__, methods
from spark_trainer.data import manifest
from spark_trainer.data.files import file_digest
from spark_trainer.runs.spec import LaunchedRun
from spark_trainer.system import environment, gpu, origin

PACKAGES = ("accelerate", "deepspeed", "diffusers", "peft", "torch", "torchvision", "transformers")


def of(launched: LaunchedRun, data: Path) -> dict[str, Any]:
    """Describe a run on a manifest as `lineage.json` holds it."""
    videos = {
        entry["id"]: {
            "source_path": entry["meta"].get("source_path"),
            "captioner": entry["meta"].get("captioner"),
            "captioner_model": entry["meta"].get("captioner_model"),
            "transcriber_model": entry["meta"].get("transcriber_model"),
            **({"corrected": by_hand} if (by_hand := entry["meta"].get("corrected")) else {}),
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


def code_diff() -> str:
    """Return what the code differs by from its commit; nothing outside a checkout."""
    return origin.git("diff", "HEAD", "--", ".") or ""
