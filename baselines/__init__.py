"""The methods IBA is compared with, one per file; each follows `iba.attributor.Attributor`."""
