"""Explain own texts: `scripts/explain.py text="A fine film." model=FOLDER method=iba,ig` or `texts=FILE`."""

import sys

from iba.cli import main
from iba.report import own_text

if __name__ == "__main__":
    sys.argv[1:] = own_text.literal_arguments(sys.argv[1:])
    main(own_text.run, "explain")
