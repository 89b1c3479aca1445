"""How fast, how large and how exact: this implementation beside a straightforward one, in one run."""
