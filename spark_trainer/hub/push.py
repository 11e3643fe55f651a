"""Sends to a hub, by its own client: private unless asked otherwise, and resumable."""

import contextlib
import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_trainer import __version__
from spark_trainer.data.layout import EXPORT_NOTE
from spark_trainer.errors import BUSY, MachineError, UserError, cause, of_machine
from spark_trainer.hub.upload import CARD, Upload

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)  # of a repository
LOADED = '"final"'  # what a model card's lines load


@dataclass(frozen=True)
class Target:
    """Where it goes: a repository, a branch of it, and who may see it."""

    repository: str
    revision: str | None = None
    public: bool = False

    def __post_init__(self) -> None:
        """Refuse what no repository is called."""
        if not NAME.fullmatch(self.repository):
            raise UserError(f"--to {self.repository}: expected a user or organization / a name")

    def __str__(self) -> str:
        branch = f", branch {self.revision}" if self.revision else ""
        return f"{self.repository} ({'public' if self.public else 'private'}{branch})"


def push(upload: Upload, target: Target) -> Iterator[str]:
    """Send it; what an earlier call sent already is not sent again.

    Args:
        upload: what goes.
        target: where.

    Yields:
        lines for the user: where it is, and what else is there.

    Raises:
        UserError: there is no token, the hub refuses, or what should be private would be seen.
        MachineError: the network or the hub fails; the same call goes on from there.
    """
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise UserError("the hub asks who you are: `hf auth login`, or HF_TOKEN")
    api = HfApi(library_name="spark-trainer", library_version=__version__)
    there: dict[str, Any] = {"repo_id": target.repository, "repo_type": upload.kind}
    with _told(target):
        _open(api, target, there)
        if target.revision:
            api.create_branch(**there, branch=target.revision, exist_ok=True)
        at = there | {"revision": target.revision}
        message = f"{upload.name}, by SparkTrainer {__version__}"
        others = [*upload.left_out, EXPORT_NOTE, CARD]
        api.upload_folder(
            **at,
            folder_path=upload.folder,
            commit_message=message,
            ignore_patterns=[*map(glob.escape, others)],
        )
        card = _card(upload, target)
        done = api.upload_file(
            **at, path_or_fileobj=card, path_in_repo=CARD, commit_message=message
        )
        stays = {*api.list_repo_files(**at)} - upload.files.keys() - {".gitattributes"}
    yield done.commit_url
    if stays:
        yield f"there before, and still there: {', '.join(sorted(stays))}"


def _open(api: "HfApi", target: Target, there: dict[str, Any]) -> None:
    """Make the repository, or look who may see the one that is there.

    Raises:
        UserError: everybody may, and that was not asked for.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        seen = not api.repo_info(**there).private
    except RepositoryNotFoundError:
        api.create_repo(**there, private=not target.public, exist_ok=True)
        return
    if seen and not target.public:
        raise UserError(f"{target.repository} is public; expected --public, or another name")


def _card(upload: Upload, target: Target) -> bytes:
    """Return the card; its lines load the model from where it is then."""
    text = (upload.folder / CARD).read_text(encoding="utf-8")
    if upload.kind == "model":
        text = text.replace(LOADED, f'"{target.repository}"')
    return text.encode()


@contextlib.contextmanager
def _told(target: Target) -> Iterator[None]:
    """Tell what the hub refuses from what may go well another time, by class and status.

    Raises:
        UserError: the user can mend it.
        MachineError: another try may succeed.
    """
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise UserError("HF_HUB_OFFLINE forbids to ask the hub") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in BUSY or status >= 500:
            raise MachineError(f"the hub answers {status}; the same call goes on") from error
        refusals = {
            401: "the hub doesn't take this token: `hf auth login`, or HF_TOKEN",
            403: f"this token may not write to {target.repository}",
        }
        said = " ".join((error.server_message or "").split())
        raise UserError(refusals.get(status, f"the hub answers {status}: {said}")) from error
    except (httpx2.TransportError, ConnectionError, TimeoutError) as error:
        text = f"the hub can't be reached ({cause(error)}); the same call goes on"
        raise MachineError(text) from error
    except PermissionError as error:  # of the hub's store, unless a file can't be read
        if of_machine(error):
            raise
        raise UserError(f"this token may not write to {target.repository}") from error
