internal import CLinux
internal import Synchronization

/// A descriptor with several readers and one life: it is closed when the last reference goes.
public final class RetainedDescriptor: Sendable {
    /// The descriptor, to be borrowed for calls.
    public let descriptor: OwnedDescriptor

    public init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }

    /// The number, valid while this object lives.
    public var rawValue: Int32 { descriptor.rawValue }

    /// A descriptor of the caller's own for the same open file.
    public func duplicate() throws(LinuxError) -> OwnedDescriptor { try descriptor.duplicate() }
}

/// Descriptors that came with a message. Those that no receiver takes are closed with the list.
public final class ReceivedDescriptors: Sendable {
    private let numbers: Mutex<[Int32]>

    /// Takes over open descriptors.
    public init(taking numbers: [Int32] = []) { self.numbers = Mutex(numbers) }

    deinit {
        for number in numbers.withLock({ $0 }) { _ = tdxd_close(number) }
    }

    /// How many are left to take.
    public var count: Int { numbers.withLock { $0.count } }

    /// The next one in the order in which they were sent; nil when all are taken.
    public func takeFirst() -> OwnedDescriptor? {
        let number = numbers.withLock { $0.isEmpty ? nil : $0.removeFirst() }
        guard let number else { return nil }
        return OwnedDescriptor(taking: number)
    }

    /// Moves everything that is left in `other` to the end.
    public func append(from other: ReceivedDescriptors) {
        let moved = other.numbers.withLock { list in
            defer { list = [] }
            return list
        }
        numbers.withLock { $0.append(contentsOf: moved) }
    }
}

extension RetainedDescriptor {
    /// Another descriptor for the open file of `number`, which stays with its owner.
    public convenience init(duplicating number: Int32) throws(LinuxError) {
        let copy = try LinuxError.check(tdxd_duplicate(number, 3), "fcntl(F_DUPFD_CLOEXEC)", "descriptor \(number)")
        self.init(OwnedDescriptor(taking: copy))
    }
}
