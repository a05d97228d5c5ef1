internal import KVM
internal import SystemPackage

/// The part of a descriptor that every seam object shares: it is open until it is closed once, and calls that are under
/// way keep its object.
final class Handle: @unchecked Sendable {
    private let lock = Lock()
    // Sound: touched inside `lock` only.
    private var isOpen = true
    private let retain: @Sendable () -> Void
    private let release: @Sendable () -> Void

    /// Takes over one reference; `retain` and `release` take and drop more of the same kind.
    init(retain: @escaping @Sendable () -> Void, release: @escaping @Sendable () -> Void) {
        self.retain = retain
        self.release = release
    }

    deinit { close() }

    /// Runs a call on the open descriptor; EBADF once it is closed.
    func use<Result: ~Copyable>(
        _ operation: String, _ body: () throws(KVMError) -> Result
    ) throws(KVMError) -> Result {
        let open = lock.withLock {
            if isOpen { retain() }
            return isOpen
        }
        guard open else { throw KVMError(operation, .badFileDescriptor, detail: "the descriptor is closed") }
        defer { release() }
        return try body()
    }

    var isClosed: Bool { lock.withLock { !isOpen } }

    func close() {
        let wasOpen = lock.withLock {
            defer { isOpen = false }
            return isOpen
        }
        if wasOpen { release() }
    }
}
