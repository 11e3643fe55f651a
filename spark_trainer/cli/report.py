"""The command that writes the page about a store and the runs on it."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from spark_trainer import config
from spark_trainer.cli import commands, flags, store
from spark_trainer.data.files import write_json
from spark_trainer.data.layout import Layout
from spark_trainer.errors import UserError
from spark_trainer.runs import folder
from spark_trainer.system import environment


def report(options: argparse.Namespace) -> int:
    """Write a page about the data and the runs: videos, curves, samples, origins, what changed."""
    from spark_trainer.report import page as pages

    if options.serve:
        return _serve(options)
    if options.marker:
        commands.withdraw(options.marker)
    path = options.manifest or Layout(Path(config.read(options.config).output_dir)).manifest
    if path.is_dir():
        raise UserError(f"{path}: expected a manifest, not a folder")
    page = options.page or Layout(path.parent).report
    if page.is_dir():
        raise UserError(f"--page: {page}: expected a file, not a folder")
    runs = list(store.run_folders(options))
    at = folder.state(runs)
    try:
        made = pages.write(path, page, runs, options.limit, options.threads)
    except FileNotFoundError as error:
        if Path(error.filename or "") != path:
            raise
        raise UserError(f"no manifest yet: {path}; `spark-trainer manifest` builds it") from None
    except ValueError as error:
        raise UserError(str(error)) from None
    if options.marker:
        write_json(options.marker, {"videos": made.videos, "runs": at})
    for complaint in made.left_out:
        print(f"left out: {complaint}", file=sys.stderr)
    print(f"{page}: {made}", file=sys.stderr)
    return 0


def _serve(options: argparse.Namespace) -> int:
    """Serve the page to this machine's browser until Ctrl-C; videos play, and can be corrected."""
    from spark_trainer.report import page as pages
    from spark_trainer.report.page.served import ServedLinks
    from spark_trainer.report.serve import Server
    from spark_trainer.store import correct

    if options.manifest or options.page:
        raise UserError("--serve: expected neither --manifest nor --page: it serves the store's")
    settings = config.read(options.config)
    layout = Layout(Path(settings.output_dir))
    if not layout.manifest.is_file():
        raise UserError(f"no manifest yet: {layout.manifest}; `spark-trainer manifest` builds it")
    editor = correct.Editor(settings, options.author or correct.author())

    def render(page: Path) -> Mapping[str, Path]:
        links = ServedLinks(page.parent, layout.root.absolute(), editor.author)
        runs, most = list(store.run_folders(options)), options.limit
        pages.write(layout.manifest, page, runs, most, options.threads, links)
        return links.files

    def runs() -> str:
        return folder.state(store.run_folders(options))

    try:
        server = Server(editor, render, options.port, runs)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"--port: {options.port} can't be had: {why}") from None
    print(server.address, flush=True)
    print("served to this machine alone; whoever has the address can edit", file=sys.stderr)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup keeps the second one out
            signal.signal(number, signal.default_int_handler)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


def gallery(options: argparse.Namespace) -> int:
    """Write the same page as `report`, whose middle is the gallery of videos."""
    return report(options)


def report_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `report`."""
    parser.add_argument("--manifest", type=flags.path, help="instead of the configured one")
    parser.add_argument("--page", type=flags.path, help="default: report.html beside the manifest")
    store.runs_flag(parser)
    most = "the most videos of the gallery (default: 20,000); all are counted"
    parser.add_argument("--limit", type=flags.count, default=20_000, help=most)
    parser.add_argument(
        "--threads", type=flags.count, default=environment.cpus(), help=argparse.SUPPRESS
    )
    serve = "serve the page to this machine's browser: videos play, and can be corrected by hand"
    parser.add_argument("--serve", action="store_true", help=serve)
    parser.add_argument("--port", type=int, default=0, help="to serve at (default: any free one)")
    parser.add_argument("--author", help="who corrects (default: the user's name, as git has it)")
    parser.add_argument("--marker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
