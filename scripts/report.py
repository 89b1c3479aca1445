"""Redraw tables, figures, verdicts and the HTML page from stored results: `scripts/report.py preset=cpu`."""

from iba.cli import main
from iba.pipeline import report

if __name__ == "__main__":
    main(report.run)
