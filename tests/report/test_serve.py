"""A real browser's requests, and those of who should get nothing, over real connections."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import Config, load
from spark_trainer.data import corrections, index, manifest
from spark_trainer.data.layout import Layout
from spark_trainer.report import page as pages
from spark_trainer.report.page.served import ServedLinks
from spark_trainer.report.sending import asked_range
from spark_trainer.report.serve import MOST_BYTES, Server
from spark_trainer.store.correct import Editor
from tests import browser
from tests.report.page.read import Page

JSON = {"Content-Type": "application/json"}
SEGMENT = {"start": 0.5, "end": 1.25, "text": "hello"}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def said(self) -> dict[str, Any]:
        return dict(json.loads(self.content))


@dataclass(frozen=True)
class Served:
    """A server at work, and its store."""

    server: Server
    config: Config
    dog: str
    title: str

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | str | None = None,
        token: str | None = None,
        **headers: str,
    ) -> Answer:
        """Send a request as it is given, `_` for `-` in names of headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=20)
        token = self.server.token if token is None else token
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/{token}/{path}", body, named)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return Answer(answer.status, dict(answer.headers), content)

    def post(self, said: object, **headers: str) -> Answer:
        sent = {"Content_Type": "application/json"} | headers
        return self.ask("corrections", "POST", json.dumps(said), **sent)

    @property
    def kept(self) -> dict[str, corrections.Correction]:
        return corrections.every(self.config.corrections)


@pytest.fixture
def served(two_clips: dict[str, str]) -> Iterator[Served]:
    """A manifest of two clips, one of them with a sound, a frame and what is said."""
    config = load(two_clips)
    found = index.scan(config)
    hashes = {names[0]: video for video, names in found.sources.items()}
    dog, title = hashes["dog.mp4"], hashes["title.mp4"]
    frames = found.layout.root / f"{dog[:2]}/{dog}/frames"
    frames.mkdir(parents=True)
    (frames / "frame_000001.jpg").write_bytes(b"a picture")
    (frames.parent / "audio.wav").write_bytes(b"0123456789")
    meta = {
        "source_path": "dog.mp4",
        "caption": "<script>alert(1)</script>",
        "captioner": "blip",
        "transcript": "hello",
        "flag": "two\r\nlines",
        "segments": [SEGMENT],
        "frame_times": [0.0],
    }
    inside = f"{dog[:2]}/{dog}"
    entries: list[manifest.Entry] = [
        {"id": dog, "frames_dir": f"{inside}/frames", "audio": f"{inside}/audio.wav", "meta": meta},
        {"id": title, "frames_dir": None, "audio": None, "meta": {}},
    ]
    path = found.layout.manifest
    manifest.write(path, sorted(entries, key=lambda entry: str(entry["id"])))

    def render(page: Path) -> dict[str, Path]:
        links = ServedLinks(page.parent, found.layout.root, "Ada")
        pages.write(path, page, [], 10, served=links)
        return links.files

    server = Server(Editor(config, "Ada"), render, 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield Served(server, config, dog, title)
    server.shutdown()
    server.server_close()


def told(served: Served) -> dict[str, Any]:
    """What the page says of the video with sound and a frame."""
    page = Page(served.ask("").content.decode())
    return next(one for one in page.data("texts-0") if "audio" in one)


def test_the_page_edits_only_where_it_is_served(served: Served, tmp_path: Path) -> None:
    answer = served.ask("")
    page = Page(answer.content.decode())
    assert answer.status == 200
    assert page.data("served") == {"author": "Ada", "excluded": []}
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    layout = Layout(Path(served.config.output_dir))
    links = [value for key, value in told(served).items() if key in ("file", "audio", "frames")]
    assert len(links) == 3
    assert not any(str(layout.root) in link or "/" in link.partition("/")[2] for link in links)
    pages.write(layout.manifest, tmp_path / "page.html", [], 10)
    alone = (tmp_path / "page.html").read_text()
    assert "Take all back" not in alone
    assert "Take all back" in answer.content.decode()


def test_a_page_is_made_again_where_a_run_went_on(served: Served) -> None:
    made: list[Path] = []
    at = ["one update"]

    def render(page: Path) -> dict[str, Path]:
        page.write_text(at[0])
        made.append(page)
        return {}

    server = Server(served.server.editor, render, 0, lambda: at[0])
    try:
        assert server.page().read_text() == server.page().read_text() == "one update"
        at[0] = "two updates"
        assert server.page().read_text() == "two updates"
        assert len(made) == 2
    finally:
        server.server_close()


def test_a_page_is_that_of_the_last_build(served: Served) -> None:
    layout = Layout(Path(served.config.output_dir))
    served.ask("")
    first = dict(served.server.files)
    served.ask("")
    assert served.server.files == first
    entries = [entry for entry in manifest.read(layout.manifest) if entry["id"] == served.title]
    manifest.write(layout.manifest, entries)
    assert Page(served.ask("").content.decode()).data("videos")["id"] == [served.title]
    assert served.server.files.keys() < first.keys()


def test_videos_sounds_and_frames_are_sent_whole_and_in_part(served: Served) -> None:
    content = (served.config.video_dirs[0] / "dog.mp4").read_bytes()
    links = told(served)
    assert links["file"] == f"video/{served.dog}"
    whole = served.ask(links["file"])
    assert (whole.status, whole.content) == (200, content)
    assert whole.headers["Content-Type"] == "video/mp4"
    part = served.ask(links["file"], Range="bytes=100-199")
    assert (part.status, part.content) == (206, content[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(content)}"
    assert served.ask(links["audio"], Range="bytes=-3").content == b"789"
    assert served.ask(f"{links['frames']}/frame_000001.jpg").content == b"a picture"
    head = served.ask(links["file"], "HEAD")
    assert (head.content, head.headers["Content-Length"]) == (b"", str(len(content)))
    beyond = served.ask(links["audio"], Range="bytes=10-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, "bytes */10")


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-0", range(1)),
        ("bytes=7-", range(7, 10)),
        ("bytes=7-99", range(7, 10)),
        ("bytes=-99", range(10)),
        ("bytes=3-1", None),
        ("bytes=0-1,3-4", None),
        ("bytes=-", None),
        ("pages=1-2", None),
        (f"bytes={'9' * 30}-", None),
    ],
)
def test_ranges(header: str | None, part: range | None) -> None:
    assert asked_range(header, 10) == part


def test_a_part_that_a_file_does_not_have_is_empty() -> None:
    for header, size in (("bytes=10-", 10), ("bytes=-0", 10), ("bytes=-5", 0), ("bytes=0-", 0)):
        assert asked_range(header, size) is not None
        assert not asked_range(header, size)


@pytest.mark.parametrize(
    "path",
    [
        "video/{other}",
        "video/{dog}/frame_000001.jpg",
        "file/{dog}",
        "file/",
        "{frames}",
        "{frames}/../audio.wav",
        "{frames}/..%2faudio.wav",
        "{frames}//etc/passwd",
        "{frames}/frame_000002.jpg",
        "{audio}/frame_000001.jpg",
        "video/../../../etc/passwd",
        "config.yaml",
        "..",
    ],
)
def test_nothing_else_is_opened(served: Served, path: str) -> None:
    links = told(served)
    found = path.format(dog=served.dog, other="0" * 64, **links)
    assert served.ask(found).status == 404


def test_a_file_that_was_replaced_is_no_video_of_the_manifest(served: Served) -> None:
    (served.config.video_dirs[0] / "dog.mp4").write_bytes(b"something else")
    answer = served.ask(f"video/{served.dog}")
    assert answer.status == 404
    assert "changed after it was indexed" in answer.said["error"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_only_who_has_the_address_is_answered(served: Served, method: str) -> None:
    for token in ("", "x" * 32, served.server.token[:-1], "%00", "%c3%a9"):
        assert served.ask("", method, token=token).status == 403
    port = served.server.server_port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1.evil:{port}"):
        assert served.ask("", method, Host=host).status == 403
    said = {"hash": served.dog, "flag": "x"}
    assert served.post(said, Origin="http://evil.example").status == 403
    assert served.post(said, Origin="null").status == 403
    with socket.create_connection(served.server.server_address, timeout=20) as connection:
        connection.sendall(f"{method} /\xe9/ HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1"))
        assert connection.recv(100).startswith(b"HTTP/1.1 403")
    assert served.kept == {}
    assert served.server.server_address[0] == "127.0.0.1"
    assert served.post(said, Origin=f"http://localhost:{port}").status == 200


def test_an_edit_is_written_as_by_the_command(served: Served) -> None:
    before = served.ask(f"corrections/{served.dog}").said
    assert before["transcript"] == "1\n00:00:00,500 --> 00:00:01,250\nhello\n"
    assert (before["corrected"], before["pending"]) == ({}, False)
    spoken = before["transcript"].replace("hello", "hello there")
    said = {"hash": served.dog, "caption": "a dog", "transcript": spoken, "author": "Bob"}
    answer = served.post(said)
    assert answer.status == 200
    assert answer.said == served.ask(f"corrections/{served.dog}").said
    assert (answer.said["caption"], answer.said["pending"]) == ("a dog", True)
    [kept] = served.kept.values()
    assert kept.transcript is not None
    assert kept.transcript.segments[0].text == kept.transcript.text == "hello there"
    assert kept.transcript.author == "Bob"
    assert served.post({"hash": served.title, "flag": "?"}).said["corrected"]["flag"][
        "author"
    ] == "Ada"  # fmt: skip
    back = served.post({"hash": served.dog, "caption": None, "transcript": None})
    assert back.said == before


def test_two_who_edit_at_once_both_are_heard(served: Served) -> None:
    edits = [{"caption": f"a dog {n}"} for n in range(8)] + [{"flag": f"{n}"} for n in range(8)]
    posts = [{"hash": served.dog} | edit for edit in edits]
    with ThreadPoolExecutor(len(posts)) as pool:
        assert {answer.status for answer in pool.map(served.post, posts)} == {200}
    assert set(served.kept[served.dog].said) == {"caption", "flag"}


def test_nobody_replaces_what_he_has_not_seen(served: Served) -> None:
    seen = served.ask(f"corrections/{served.dog}").said
    edit = {"hash": served.dog, "before": seen}
    assert served.post(edit | {"caption": "a dog", "author": "Bob"}).status == 200
    late = served.post(edit | {"caption": "a cat", "flag": "?"})
    assert late.status == 409
    assert "Bob made it since “a dog”" in late.said["error"]
    assert set(served.kept[served.dog].said) == {"caption"}
    assert served.post(edit | {"flag": "another text"}).status == 200
    seen = served.ask(f"corrections/{served.dog}").said
    assert served.post(edit | {"before": seen, "caption": "a cat"}).said["caption"] == "a cat"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"hash": "\xff"}', 400),
        (b"[" * 100_000, 400),
        (b'{"hash": %s}' % (b"9" * 5000), 400),
        (b"{}", 404),
        (b'{"hash": ["DOG"]}', 404),
        (b'{"hash": "../../DOG"}', 404),
        (b'{"hash": "DOG", "title": "x"}', 400),
        (b'{"hash": "DOG", "caption": 3}', 400),
        (b'{"hash": "DOG", "caption": {"text": "x"}}', 400),
        (b'{"hash": "DOG", "caption": "\\ud83d"}', 400),
        (b'{"hash": "DOG", "flag": "x", "author": ["Ada"]}', 400),
        (b'{"hash": "DOG", "flag": "x", "author": "a\\u0000"}', 400),
        (b'{"hash": "DOG", "transcript": "1\\n0 --> 1\\nx"}', 400),
    ],
)
def test_hostile_bodies_change_nothing(served: Served, body: bytes, status: int) -> None:
    body = body.replace(b"DOG", served.dog.encode())
    answer = served.ask("corrections", "POST", body, Content_Type="application/json")
    assert answer.status == status
    assert answer.said["error"]
    assert served.kept == {}
    assert served.ask("").status == 200


def test_bodies_that_are_not_read(served: Served) -> None:
    good = json.dumps({"hash": served.dog, "flag": "x"})
    typed = {"Content_Type": "application/json"}
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert served.ask("corrections", "POST", good, Content_Type=kind).status == 415
    for length in ("-1", "x", "1e3", ""):
        assert served.ask("corrections", "POST", good, Content_Length=length, **typed).status == 411
    for length in (str(MOST_BYTES + 1), "9" * 400):
        assert served.ask("corrections", "POST", good, Content_Length=length, **typed).status == 413
    assert served.ask("corrections", "POST", Transfer_Encoding="chunked", **typed).status == 411
    assert served.ask("elsewhere", "POST", good, **typed).status == 404
    assert served.ask("", "PUT", good, **typed).status == 501
    assert served.kept == {}


def test_a_damaged_correction_is_named(served: Served) -> None:
    served.config.corrections.mkdir()
    path = served.config.corrections / f"{served.dog}.json"
    path.write_text("{")
    answer = served.post({"hash": served.dog, "flag": "x"})
    assert answer.status == 400
    assert answer.said["error"].startswith(str(path))
    assert path.read_text() == "{"


def test_an_excluded_clip_can_be_included_again(served: Served) -> None:
    layout = Layout(Path(served.config.output_dir))
    manifest.write(layout.manifest, [])
    line = {"id": served.dog, "step": "hand", "reason": "bad", "source_path": "dog.mp4"}
    layout.rejected.write_text(json.dumps(line) + "\n")
    page = Page(served.ask("").content.decode())
    assert page.data("served")["excluded"] == [[served.dog, "dog.mp4", "bad"]]
    assert served.ask(f"video/{served.title}").status == 404
    assert served.post({"hash": served.dog, "exclude": "bad"}).said["pending"] is False
    assert served.post({"hash": served.dog, "exclude": None}).said["pending"] is True


EDIT = """(async () => {
  const editor = document.querySelector(".editor");
  const said = () => editor.querySelector("[role=status]").textContent;
  const later = () => new Promise((done) => setTimeout(done, 20));
  const until = async (test) => { while (!test()) await later(); };
  const field = (kind) => editor.querySelector(`[name=${kind}]`);
  editor.open = true;
  await until(() => field("transcript").value);
  for (const [kind, text] of Object.entries(%s)) field(kind).value = text;
  const before = said();
  editor.querySelector("form").requestSubmit();
  await until(() => said() !== before);
  return said();
})()"""


REOPEN = """(async () => {
  const typed = document.querySelector(".editor [name=caption]");
  typed.value = "half a sentence";
  typed.dispatchEvent(new Event("input", { bubbles: true }));
  const closed = new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  dialog.close();
  await closed;
  showVideo(numberOf("%s"), found);
  const said = () => document.querySelector(".editor [role=status]").textContent;
  while (said() !== "Not saved yet.") await new Promise((done) => setTimeout(done, 20));
  return document.querySelector(".editor [name=caption]").value;
})()"""


def test_an_edit_in_a_real_browser(served: Served) -> None:
    """A film plays, an edit is kept or refused with the reason, and no text becomes markup.

    What is typed outlives the closing of the video, and what is not touched is not sent.
    """
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium is installed")
    mark, nasty = f"#video-{served.dog[:12]}", "<img src=x onerror='window.hit = 1'>"
    with browser.Browser(program) as shown:
        shown.open(served.server.address, mark)
        film = "document.querySelector('dialog video')"
        playing = f"{film}.play().then(() => {film}.videoWidth > 0)"
        assert shown.run(f"{film}.muted = true, {playing}")
        status = shown.run(EDIT % json.dumps({"caption": nasty, "flag": "look"}))
        assert "caption: Ada" in status
        assert "the next build takes it up" in status
        assert set(served.kept[served.dog].said) == {"caption", "flag"}
        shown.open(served.server.address, mark)
        assert shown.run(EDIT % json.dumps({"flag": ""})).startswith("caption: Ada")
        assert set(served.kept[served.dog].said) == {"caption"}
        assert shown.run(REOPEN % served.dog) == "half a sentence"
        assert shown.run(EDIT % json.dumps({"caption": "a dog"})).startswith("caption: Ada")
        assert set(served.kept[served.dog].said) == {"caption"}
        assert shown.run(EDIT % json.dumps({"caption": "\1"})).startswith("Not saved: caption.text")
        assert shown.run("window.hit === undefined")
        outside = ("data:", served.server.address)
        assert [one for one in shown.requests if not one.startswith(outside)] == []
        assert all("400 (Bad Request)" in error for error in shown.errors)
