"""`python -m spark_trainer …`"""

import signal

if __name__ == "__main__":
    # Ctrl-C while modules are read would show where; until then it ends the process by itself.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from spark_trainer.cli import main

    signal.signal(signal.SIGINT, handler)
    main()
