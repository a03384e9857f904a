"""One file a step, each named by its place in the order."""
