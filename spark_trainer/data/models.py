"""Which weights a model name stands for, so that a swapped checkpoint is another fingerprint."""

from pathlib import Path

from spark_trainer.data.files import digest, file_digest, read_json, tree_digest, write_json


def identity(name: str, cache: Path) -> str:
    """A hub id stands for itself; a local file or folder for the digest of its content.

    The digest is kept in `cache` beside the sizes and times it was taken at, because reading
    gigabytes of weights at every start would cost more than the start.
    """
    path = Path(name).expanduser()
    if not path.exists():
        return name
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(str(file), file.stat()) for file in files if file.is_file()]
    state = digest([[file, stat.st_size, stat.st_mtime_ns] for file, stat in stats])
    known = read_json(cache) if cache.exists() else {}
    if known.get(name, [None])[0] != state:
        content = tree_digest(path) if path.is_dir() else file_digest(path)
        known[name] = [state, content]
        write_json(cache, known)
    return str(known[name][1])
