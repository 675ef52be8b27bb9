"""Reading other programs' VMCS dumps, and saying in words what is wrong and what to change."""
