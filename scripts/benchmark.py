"""Time ours beside the straightforward reference: `scripts/benchmark.py preset=cpu dataset=[rte,imdb]`."""

from iba.cli import main

if __name__ == "__main__":
    main("iba.benchmark.run:run", "benchmark")
