"""`python -m suite`: see `suite.cli`. Worker processes import this file, so it stays empty."""

if __name__ == "__main__":
    from suite.cli import main

    raise SystemExit(main())
