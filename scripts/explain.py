"""Explain own texts: `scripts/explain.py text="A fine film." model=FOLDER method=iba,ig` or `texts=FILE`."""

import sys

from iba.cli import main
from iba.explain import show

if __name__ == "__main__":
    sys.argv[1:] = show.literal_arguments(sys.argv[1:])
    main(show.run, "explain")
