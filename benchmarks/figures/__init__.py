"""One file a figure; each declares its `FIGURES`."""
