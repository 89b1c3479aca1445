"""How scored text is shown: in HTML, in a figure, in a terminal. The report and `explain` share it."""
