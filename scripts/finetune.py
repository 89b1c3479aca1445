"""Fine-tune a classifier for every selected data set: `scripts/finetune.py dataset=rte`."""

from iba.cli import main

if __name__ == "__main__":
    main("iba.pipeline.finetune:run")
