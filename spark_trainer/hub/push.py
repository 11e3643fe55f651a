"""Sends to a hub, by its own client: private unless asked otherwise, and resumable."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_trainer import __version__
from spark_trainer.errors import (
    BUSY,
    LONGEST_REASON,
    MachineError,
    SparkTrainerError,
    UserError,
    cause,
    of_machine,
)
from spark_trainer.hub.upload import CARD, Upload
from spark_trainer.system import log

if TYPE_CHECKING:
    from huggingface_hub import HfApi

BRANCH = re.compile(r"\w(?:[\w/-]|\.(?!\.))*", re.ASCII)
KINDS = ("buckets", "datasets", "models", "spaces")  # nobody is called so at the hub
CONFLICT = (409, 412)  # HTTP statuses where somebody else changes the repository at the same time
LOADED = '"final"'  # what a model card's lines load
SILENCE_S = 600.0  # after which a hub that says nothing has failed; the client would wait for ever


@dataclass(frozen=True)
class Target:
    """Where it goes: a repository, a branch of it, and who may see it."""

    repository: str
    revision: str | None = None
    public: bool = False

    def __post_init__(self) -> None:
        """Refuse what no repository and no branch is called."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.errors import HFValidationError

        owner, *name = self.repository.split("/")
        if len(name) != 1 or owner in KINDS:
            named = log.plain(self.repository)
            raise UserError(f"--to {named}: expected a user or organization / a name")
        try:
            hf_hub_url(self.repository, CARD)  # it asks nobody, and checks the name
        except HFValidationError as error:
            raise UserError(f"--to: {log.plain(str(error))}") from None
        if self.revision is not None and not BRANCH.fullmatch(self.revision):
            raise UserError(f"--revision {self.revision!r}: expected a branch, as v2")

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
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    token = get_token()
    if not token:
        raise UserError("the hub asks who you are: `hf auth login`, or HF_TOKEN")
    if not (token.isascii() and token.isprintable()):
        raise UserError("the token has characters that none has: `hf auth login`, or HF_TOKEN")
    _wait_for(SILENCE_S)
    card = _card(upload, target)
    api = HfApi(library_name="spark-trainer", library_version=__version__)
    there: dict[str, Any] = {"repo_id": target.repository, "repo_type": upload.kind}
    with _told(target, token):
        _open(api, target, there)
        if target.revision:
            api.create_branch(**there, branch=target.revision, exist_ok=True)
        at = there | {"revision": target.revision}
        sent: dict[str, Any] = {name: upload.folder / name for name in upload.files} | {CARD: card}
        done = api.create_commit(
            **at,
            operations=[CommitOperationAdd(name, content) for name, content in sent.items()],
            commit_message=f"{upload.name}, by SparkTrainer {__version__}",
        )
        stays = {*api.list_repo_files(**at)} - upload.files.keys() - {".gitattributes"}
    yield done.commit_url
    if stays:
        yield f"there before, and still there: {', '.join(map(log.plain, sorted(stays)))}"


def _open(api: "HfApi", target: Target, there: dict[str, Any]) -> None:
    """Make the repository, or look who may see the one that is there.

    Raises:
        UserError: everybody may, and that was not asked for.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        seen = not api.repo_info(**there, timeout=SILENCE_S).private
    except RepositoryNotFoundError:
        api.create_repo(**there, private=not target.public, exist_ok=True)
        return
    if seen and not target.public:
        raise UserError(f"{target.repository} is public; expected --public, or another name")


def _card(upload: Upload, target: Target) -> bytes:
    """Return the card; its lines load the model from where it is then."""
    text = (upload.folder / CARD).read_text(encoding="utf-8")
    if upload.kind == "model":
        branch = f', revision="{target.revision}"' if target.revision else ""
        text = text.replace(LOADED, f'"{target.repository}"{branch}')
    return text.encode()


def _wait_for(seconds: float) -> None:
    """Let the hub's client wait so long for each answer, and no longer."""
    import httpx2
    from huggingface_hub import get_session, set_client_factory

    hooks = get_session().event_hooks
    set_client_factory(
        lambda: httpx2.Client(event_hooks=hooks, follow_redirects=True, timeout=seconds)
    )


@contextlib.contextmanager
def _told(target: Target, token: str) -> Iterator[None]:
    """Tell what the hub refuses from what may go well another time, by class and status.

    Raises:
        UserError: the user can mend it.
        MachineError: another try may succeed.
    """
    try:
        yield
    except SparkTrainerError:
        raise
    except Exception as error:
        raise _meant(error, target, token) from error


def _meant(error: BaseException, target: Target, token: str) -> BaseException:
    """Return what an error of the hub's client means to the user; no message has the token."""
    import httpx2
    from huggingface_hub import errors

    refused = f"this token may not write to {target.repository}"
    match error:
        case errors.OfflineModeIsEnabled():
            return UserError("HF_HUB_OFFLINE forbids to ask the hub")
        case errors.HfHubHTTPError():
            status = error.response.status_code
            if status in (*BUSY, *CONFLICT) or status >= 500:
                return MachineError(f"the hub answers {status}; the same call goes on")
            refusals = {
                401: "the hub doesn't take this token: `hf auth login`, or HF_TOKEN",
                403: refused,
            }
            said = _said(error.server_message or "no more than that", token)
            return UserError(refusals.get(status, f"the hub answers {status}: {said}"))
        case httpx2.UnsupportedProtocol() | httpx2.InvalidURL():
            return UserError("HF_ENDPOINT: expected the address of a hub, https://…")
        case httpx2.TransportError() | ConnectionError() | TimeoutError():
            why = _said(cause(error), token)
            return MachineError(f"the hub can't be reached ({why}); the same call goes on")
        case PermissionError() if not of_machine(error):  # of the hub's store
            return UserError(refused)
        case ValueError() if isinstance(error.__cause__, errors.HfHubHTTPError):
            return UserError(f"the hub doesn't take it: {_said(str(error), token)}")
        case RuntimeError() if error.__cause__:  # around what failed as a file was sent
            return _meant(error.__cause__, target, token)
        case _ if of_machine(error):
            return error
    why = _said(f"{type(error).__name__}: {error}", token)
    return MachineError(f"no hub answers there ({why}); is HF_ENDPOINT right?")


def _said(text: str, token: str) -> str:
    """Return what others said on one line, without the token."""
    return log.plain(" ".join(text.replace(token, "…").split()))[:LONGEST_REASON]
