"""Vary one thing, such as the layer or β: `scripts/study.py study=layers`; finished points are skipped."""

from iba.cli import main

if __name__ == "__main__":
    main("iba.pipeline.study:run")
