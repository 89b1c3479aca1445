"""Vary one thing, such as the layer or β: `scripts/study.py study=layers`; finished points are skipped."""

from iba.cli import main
from iba.pipeline import study

if __name__ == "__main__":
    main(study.run)
