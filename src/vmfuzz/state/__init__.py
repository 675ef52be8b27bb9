"""States: one VMCS, a batch in columns, the stored profiles of the emulated CPUs."""
