"""Time ours beside the straightforward reference: `scripts/benchmark.py preset=cpu dataset=[mnli_matched,imdb]`."""

from iba.benchmark import run
from iba.cli import main

if __name__ == "__main__":
    main(run.run, "benchmark")
