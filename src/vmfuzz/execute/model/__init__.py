"""The executor that is the model itself, in a processor's place."""
