"""The processor of a machine that runs vmfuzz's bootable image (image/), at the other end of a serial line."""
