"""Explain your own text: `scripts/explain.py text="A fine film." model=FOLDER method=iba,ig`."""

import sys

from iba.cli import main
from iba.report import own_text

if __name__ == "__main__":
    sys.argv[1:] = own_text.literal_arguments(sys.argv[1:])
    main(own_text.run, "explain")
