internal import CLinux

/// A file descriptor with one owner: it is closed when the owner goes, or handed on by `relinquish()`.
public struct OwnedDescriptor: ~Copyable, Sendable {
    /// The number, for system calls while the owner lives.
    public let rawValue: Int32

    /// Takes over an open descriptor.
    public init(taking rawValue: Int32) {
        precondition(rawValue >= 0, "a descriptor is never negative")
        self.rawValue = rawValue
    }

    deinit { _ = tdxd_close(rawValue) }

    /// Gives the number away; whoever takes it closes it.
    public consuming func relinquish() -> Int32 {
        let number = rawValue
        discard self
        return number
    }
}
