"""The published systems, by family; each module has a CARD, a system and its claims."""
