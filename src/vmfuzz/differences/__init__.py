"""Where answers differ: two processors against each other, and the readings of the manual's ambiguities that each takes."""
