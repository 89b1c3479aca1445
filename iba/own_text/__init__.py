"""Why a classifier says what it says of one's own texts: `iba.explain`, and how the answer is shown."""
