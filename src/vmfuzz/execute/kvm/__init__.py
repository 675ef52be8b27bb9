"""The executor whose processor under test is KVM's nested VMX, through /dev/kvm, on this machine or on another."""
