"""Explain own texts: `scripts/explain.py text="A fine film." model=FOLDER method=iba,ig` or `texts=FILE`."""

from iba.cli import main

if __name__ == "__main__":
    main("iba.explain.show:run", "explain", "iba.explain.show:literal_arguments")
