"""What the engine's C and Python share: structures and numbers read from the headers, and how a batch is laid out."""
