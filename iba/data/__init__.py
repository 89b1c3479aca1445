"""Examples in, tokenised batches out: the hub, parquet files, packaged corpora and planted text."""
