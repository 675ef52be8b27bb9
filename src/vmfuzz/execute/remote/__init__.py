"""The processor of another machine, whose agent is started by a command: its kernel module, or its KVM."""
