"""``python -m bigcorr``: the command line."""

from bigcorr.cli import main

if __name__ == "__main__":
    main()
