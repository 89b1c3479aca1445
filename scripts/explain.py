"""Explain own texts: `scripts/explain.py text="A fine film." model=FOLDER method=iba,ig` or `texts=FILE`."""

import sys

from iba.cli import main
from iba.own_text import command

if __name__ == "__main__":
    sys.argv[1:] = command.literal_arguments(sys.argv[1:])
    main(command.run, "explain")
