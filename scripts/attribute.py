"""Attribute the test instances: `scripts/attribute.py dataset=rte method=[iba,ig] protocol=corrected`."""

from iba.cli import main

if __name__ == "__main__":
    main("iba.pipeline.attribute:run")
