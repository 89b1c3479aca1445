"""Tables, figures, verdicts and the HTML page: pure functions of stored rows, one file each."""
