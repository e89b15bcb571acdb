"""Claims of the systems beside that need more than a page."""
