"""Random orders of removal beside every attributed method's: `scripts/orders.py dataset=rte method=all`."""

from iba.cli import main
from iba.stages import orders

if __name__ == "__main__":
    main(orders.run)
