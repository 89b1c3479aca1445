"""How long Table 1 takes with an encoder: `scripts/projection.py preset=paper model=bert_base_random`."""

from iba.cli import main

if __name__ == "__main__":
    main("iba.benchmark.projection:run", "benchmark")
