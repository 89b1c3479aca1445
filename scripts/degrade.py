"""Run the degradation test on stored attributions: `scripts/degrade.py dataset=rte`."""

from iba.cli import main

if __name__ == "__main__":
    main("iba.pipeline.degrade:run")
