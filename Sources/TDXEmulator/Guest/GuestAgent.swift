/// What stands for a guest's kernel.
public protocol GuestAgent: Sendable {}
