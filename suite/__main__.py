"""`python -m suite`: see `suite.cli`. Worker processes import this file, so it stays empty."""

if __name__ == "__main__":
    import signal

    from suite.cli import main

    status = main()
    # All is saved and said, but Python takes seconds to end: one more Ctrl-C is no error.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(status)
