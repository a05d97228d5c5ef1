internal import CLastWill
internal import CLinux
internal import Synchronization
internal import SystemPackage

/// A process that shares this one's address space and makes one ioctl when this one has died; see `clastwill.h` for
/// how, and docs/decisions/0006 for what it can and cannot do. Swift code never runs in it.
///
/// It is gone a moment after this process, whatever happened.
public final class LastWill: Sendable {
    /// The one ioctl.
    public struct Order: Hashable, Sendable {
        public enum Argument: Hashable, Sendable {
            case number(UInt64)
            /// 24 bytes that a pointer leads to; the kernel may change them.
            case block(UInt64, UInt64, UInt64)
        }

        public var request: UInt32
        public var argument: Argument
        /// EBUSY is answered by another try 10 ms later, up to this many in all.
        public var attempts: UInt32
        /// A harmless stand-in, and not what the owner's death calls for.
        public var isRehearsal: Bool

        public init(request: UInt32, argument: Argument, attempts: UInt32 = 1, isRehearsal: Bool) {
            self.request = request
            self.argument = argument
            self.attempts = attempts
            self.isRehearsal = isRehearsal
        }
    }

    public let order: Order
    private let process: ProcessHandle
    // Sound: C's side is an atomic word, and a record that is written by this process alone while it lives.
    private nonisolated(unsafe) let state: OpaquePointer
    private let target = Mutex<RetainedDescriptor?>(nil)

    /// Starts one that stands by. It belongs before the process's seccomp filter, which it would inherit.
    /// - Parameter path: the record, which is made; it shows afterwards what happened.
    /// - Throws: what the kernel refused; EEXIST for a record that is there already.
    public init(_ order: Order, recordAt path: String) throws(LinuxError) {
        // O_RDWR | O_CREAT | O_EXCL
        let record = OwnedDescriptor(
            taking: try LinuxError.check(tdxd_open(path, 0o302, 0o600), "open", path))
        let words: [UInt64]
        let isBlock: Bool
        switch order.argument {
        case .number(let number): (words, isBlock) = ([number, 0, 0], false)
        case .block(let first, let second, let third): (words, isBlock) = ([first, second, third], true)
        }
        var made: OpaquePointer?
        let pid = try LinuxError.check(
            tdxd_last_will_start(
                record.rawValue, order.request, words, isBlock ? 1 : 0, order.attempts, order.isRehearsal ? 1 : 0, &made
            ), "clone(CLONE_VM)", "the last will")
        _ = record.relinquish()
        guard let made else { preconditionFailure("a last will without a state") }
        self.order = order
        state = made
        process = try ProcessHandle(pid: pid)
    }

    public var pid: Int32 { process.pid }

    /// From now on this process's death makes the ioctl for `descriptor`, which is kept until `disarm()`.
    public func arm(_ descriptor: RetainedDescriptor) throws(LinuxError) {
        target.withLock { $0 = descriptor }
        try LinuxError.check(tdxd_last_will_aim(state, descriptor.rawValue), "pwrite", "the last will's record")
    }

    /// There is nothing to do any more; the descriptor is closed.
    public func disarm() {
        // A record that cannot be written stays “armed”, and the will's own answer replaces it.
        _ = tdxd_last_will_aim(state, -1)
        target.withLock { $0 = nil }
    }

    /// Whether this process's death makes the ioctl: there is a descriptor, and the will has not been killed.
    public var isArmed: Bool { target.withLock { $0 != nil } && !hasEnded }

    /// It was killed, or could not confine itself.
    public var hasEnded: Bool { (try? process.hasEnded()) != false }

    /// Ends it without its doing anything.
    public func revoke() {
        disarm()
        try? process.send(.kill)
    }
}
