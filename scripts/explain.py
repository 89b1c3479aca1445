"""Explain own texts: `scripts/explain.py text="A fine film." model=FOLDER method=iba,ig` or `texts=FILE`."""

from iba.cli import main

if __name__ == "__main__":
    main("iba.own_text.command:run", "explain", "iba.own_text.command:literal_arguments")
