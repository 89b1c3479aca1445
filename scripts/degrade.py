"""Run the degradation test on stored attributions: `scripts/degrade.py dataset=rte`."""

from iba.cli import main
from iba.pipeline import degrade

if __name__ == "__main__":
    main(degrade.run)
