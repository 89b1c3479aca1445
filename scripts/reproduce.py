"""The whole experiment in one go: `scripts/reproduce.py preset=paper`; finished work is skipped."""

from iba.cli import main

if __name__ == "__main__":
    main("iba.reproduce:run")
