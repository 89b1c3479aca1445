"""Random orders of removal beside every attributed method's: `scripts/orders.py dataset=rte method=all`."""

from iba.cli import main

if __name__ == "__main__":
    main("iba.pipeline.orders:run")
