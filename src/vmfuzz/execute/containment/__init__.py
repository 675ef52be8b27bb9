"""Which candidates may run. These rules are those of machines that may be lost; kmod/ and kvm/ have rules of their own besides."""
