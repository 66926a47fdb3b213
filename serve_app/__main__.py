"""`python -m serve_app`: the command line. Knows only where it begins."""

from serve_app.cli import main

if __name__ == "__main__":
    main()
