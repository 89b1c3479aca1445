"""Attribute the test instances: `scripts/attribute.py dataset=rte method=[iba,ig] protocol=corrected`."""

from iba.cli import main
from iba.pipeline import attribute

if __name__ == "__main__":
    main(attribute.run)
