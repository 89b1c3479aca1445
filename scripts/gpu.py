"""A quarter of an hour of one GPU: `python scripts/gpu.py paths.data_dir=DATA paths.model_dir=ENCODER`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain copy: nothing needs to be installed

from iba.cli import main

if __name__ == "__main__":
    main("iba.benchmark.gpu:run", "gpu")
