"""Redraw tables, figures, verdicts and the HTML page from stored results: `scripts/report.py preset=cpu`."""

from iba.cli import main

if __name__ == "__main__":
    main("iba.report.stage:run")
