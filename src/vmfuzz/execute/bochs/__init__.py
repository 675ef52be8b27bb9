"""The executor on the Bochs CPU of bochscpu-python, of this environment or of another one (`bochs@PYTHON`)."""
