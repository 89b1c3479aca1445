"""Fine-tune a classifier for every selected data set: `scripts/finetune.py dataset=rte`."""

from iba.cli import main
from iba.pipeline import finetune

if __name__ == "__main__":
    main(finetune.run)
