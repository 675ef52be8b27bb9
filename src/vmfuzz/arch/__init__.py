"""Facts of the architecture: VMCS fields, controls, registers, capability MSRs, outcomes. Knows nothing else of vmfuzz."""
