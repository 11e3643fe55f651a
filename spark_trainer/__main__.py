"""`python -m spark_trainer …`"""

import signal

if __name__ == "__main__":
    # Ctrl-C during imports would print a trace; with the system's handler it just ends the process.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from spark_trainer.cli import main

    signal.signal(signal.SIGINT, handler)
    main()
