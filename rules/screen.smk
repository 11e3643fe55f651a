"""What a call says on its terminal: as it begins, ends, fails, or has nothing to do."""


def show_idle():
    """Say that nothing is due."""
    summary.show_idle(CONFIG, RUNS.summaries)
    let_report_speak()


def attend():
    """Begin the screen, without the failures of before; hear of signals before Snakemake does."""
    screen.settle()
    failures.sweep(journal.name_file().parents[1])
    environment.pass_signals_on()
    console.hear_sigterm()
    if not workflow.local_exec:
        screen.submits()  # so that jobs of a cluster are shown as such


def show_success():
    """Say what was built, and where it is."""
    summary.show(CONFIG, RUNS.summaries, INDEX.search.troubles)
    let_report_speak()


def show_failure():
    """Say why the build failed; one that was stopped says so itself."""
    if console.stopped():
        screen.end()
    else:
        summary.show_failure(job.log[0] for job in workflow.scheduler.failed)


def let_report_speak():
    """Let Snakemake say what follows, where it is asked for a report after the build."""
    if workflow.is_main_process and OPTIONS.report_after_run:
        screen.say_all()


if workflow.is_main_process:
    screen.when_idle(show_idle)
    if not lock.builds(OPTIONS):
        screen.say_all()
