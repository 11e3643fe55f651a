"""Identifying and checking a model's weights before any job loads them."""

from collections.abc import Sequence
from pathlib import Path

from spark_trainer.config import ConfigError
from spark_trainer.data.files import digest, file_digest, read_json, tree_digest, write_json
from spark_trainer.errors import ABSENT, BUSY, MachineError, cause, of_machine

TOKENIZERS = {"tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt"}

WEIGHTS = {".safetensors", ".bin"}  # ending of a file with weights; the last is CTranslate2's
HUB_SECONDS = 5.0  # until the hub counts as out of reach


def identity(name: str, cache: Path, revision: str | None = None) -> str:
    """Return what a model's name stands for, so that other weights give another fingerprint.

    A hub id stands for itself, with its revision; a local file or folder for its content's digest.
    The digest is kept in `cache` beside the files' sizes and times, because reading gigabytes of
    weights at every start would cost more than the start.
    """
    path = Path(name).expanduser()
    if not path.exists():
        return f"{name}@{revision}" if revision else name
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(str(file), file.stat()) for file in files if file.is_file()]
    state = digest([[file, stat.st_size, stat.st_mtime_ns] for file, stat in stats])
    known = read_json(cache) if cache.exists() else {}
    if known.get(name, [None])[0] != state:
        content = tree_digest(path) if path.is_dir() else file_digest(path)
        known[name] = [state, content]
        write_json(cache, known)
    return str(known[name][1])


def check(name: str, model_types: Sequence[str], key: str, reads_text: bool = True) -> None:
    """Refuse a local checkpoint that a backend can't run, before any work is done for it.

    Args:
        name: hub id, or local folder; a hub id is taken as it is.
        model_types: allowed values of `model_type` in config.json; any where none is given.
        key: the setting that the message names.
        reads_text: whether the model needs a tokenizer; without, it takes images alone.

    Raises:
        ConfigError: no such folder, a file is missing, or it is another kind of checkpoint.
    """
    path = Path(name).expanduser()
    if not path.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ConfigError(f"{key}: no such folder: {name}")
        return
    index = path / "model.safetensors.index.json"
    needed = {"config.json"}
    needed |= (
        set(read_json(index)["weight_map"].values()) if index.exists() else {"model.safetensors"}
    )
    if missing := sorted(file for file in needed if not (path / file).is_file()):
        raise ConfigError(f"{key}: {name} lacks {', '.join(missing)}")
    # Without one, some of upstream's tokenizers load all the same and know no word.
    if reads_text and not any((path / file).is_file() for file in TOKENIZERS):
        raise ConfigError(f"{key}: {name} lacks a tokenizer; expected one of {sorted(TOKENIZERS)}")
    model_type = read_json(path / "config.json").get("model_type")
    if model_types and model_type not in model_types:
        expected = " or ".join(model_types)
        raise ConfigError(f"{key}: {name} is a {model_type!r} checkpoint; expected {expected}")


def unavailable(name: str, revision: str | None = None) -> str | None:
    """Tell why a checkpoint is neither on this machine nor at the hub; None where it is.

    The hub is asked only for what is not on this machine. The reason tells a name that the hub
    doesn't know from a network that is down.
    """
    if Path(name).expanduser().exists():
        return None
    from huggingface_hub import HfApi, errors

    try:
        if not _cached(name, revision):
            HfApi().model_info(name, revision=revision, timeout=HUB_SECONDS)
    except errors.HFValidationError:
        return "there is no such folder, and a hub id can't have this form"
    except errors.GatedRepoError:
        return "access is gated: ask for it on the model's page, then `hf auth login`"
    except errors.RepositoryNotFoundError:
        return "there is no such folder, and the hub knows no such model (or it is private)"
    except errors.RevisionNotFoundError:
        return f"the hub has no revision {revision!r} of it"
    except errors.OfflineModeIsEnabled:
        return "it is not on this machine, and HF_HUB_OFFLINE forbids to ask the hub"
    except errors.HfHubHTTPError as error:
        if error.response.status_code in (401, 404):
            return "there is no such folder, and the hub knows no such model (or it is private)"
        return f"it is not on this machine, and the hub answers {error.response.status_code}"
    except Exception as error:  # of the HTTP library that the hub's client happens to use
        return f"it is not on this machine, and the hub can't be asked ({cause(error)})"
    return None


def unusable(message: str, error: Exception) -> ConfigError | MachineError:
    """Return the error to raise where a checkpoint can't be loaded, by the cause.

    Where a disk, the network or the hub fails, it is the machine's, as another try may succeed.

    Args:
        message: message of the new error.
        error: error of the loading; upstream wraps the first cause in errors of its own.
    """
    from huggingface_hub.errors import HfHubHTTPError

    below: BaseException | None = error
    while below is not None:
        if isinstance(below, HfHubHTTPError):
            status = below.response.status_code
            busy = status in BUSY or status >= 500
            return MachineError(message) if busy else ConfigError(message)
        if of_machine(below) and not isinstance(below, ABSENT):
            return MachineError(message)
        below = below.__cause__ or below.__context__
    return ConfigError(message)


def _cached(name: str, revision: str | None) -> bool:
    """Tell whether the hub's cache holds a checkpoint's weights, not its configuration alone."""
    from huggingface_hub import try_to_load_from_cache

    for file in ("config.json", "model_index.json"):
        found = try_to_load_from_cache(name, file, revision=revision)
        if isinstance(found, str):
            return any(path.suffix in WEIGHTS for path in Path(found).parent.rglob("*"))
    return False
