"""The executor on a real processor, through the kernel module, on this machine or through an agent on another (`remote:COMMAND`)."""
