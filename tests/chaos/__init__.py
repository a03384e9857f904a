"""Whether every question ends in one exact reply, in order, whatever dies meanwhile."""
