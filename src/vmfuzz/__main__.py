"""`python -m vmfuzz`: the `vmfuzz` command where its script is not on the PATH."""

from vmfuzz.start import main

if __name__ == "__main__":
    main(prog_name="python -m vmfuzz")
