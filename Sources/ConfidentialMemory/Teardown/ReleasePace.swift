internal import Glibc
internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization

/// How fast memory is given back: as fast as it goes, or so many bytes a second over all threads together, so that a
/// large TD's end does not take the host's memory bandwidth from its neighbours. It may be changed while it is used.
public final class ReleasePace: Sendable {
    private struct State {
        var bytesPerSecond: UInt64?
        /// When the next bytes are due.
        var due = MonotonicInstant(nanoseconds: 0)
    }

    private let state: Mutex<State>
    /// Longest sleep until a changed pace is noticed.
    private static let patience: UInt64 = 20_000_000

    /// - Parameter bytesPerSecond: at least 1; nil for as fast as it goes.
    public init(_ bytesPerSecond: UInt64? = nil) {
        state = Mutex(State(bytesPerSecond: Self.checked(bytesPerSecond)))
    }

    /// Nil for as fast as it goes.
    public var bytesPerSecond: UInt64? { state.withLock { $0.bytesPerSecond } }

    /// From now on. Whoever waits notices within 20 ms.
    /// - Parameter bytesPerSecond: at least 1; nil for as fast as it goes.
    public func set(_ bytesPerSecond: UInt64?) {
        let checked = Self.checked(bytesPerSecond)
        state.withLock { state in
            state.bytesPerSecond = checked
            // What was due under the old pace is forgiven.
            state.due = .now
        }
    }

    private static func checked(_ bytesPerSecond: UInt64?) -> UInt64? {
        precondition(bytesPerSecond != 0, "a pace of 0 would never end")
        return bytesPerSecond
    }

    /// Blocks until `bytes` may be given back.
    /// - Parameter waiting: called every 20 ms meanwhile, so that others see that the work is alive.
    func admit(_ bytes: ByteCount, waiting: () -> Void) {
        while let wait = state.withLock({ Self.take(bytes, &$0) }) {
            usleep(UInt32(min(wait, Self.patience) / 1000) + 1)
            waiting()
        }
    }

    /// - Returns: nanoseconds until it is worth asking again; nil when the bytes were taken.
    private static func take(_ bytes: ByteCount, _ state: inout State) -> UInt64? {
        guard let limit = state.bytesPerSecond else { return nil }
        let now = MonotonicInstant.now
        if now < state.due { return UInt64(state.due.milliseconds(since: now) * 1e6) }
        // Time that went unused is not made up for: a pace is a bound at every moment.
        state.due = now.adding(milliseconds: Double(bytes.rawValue) / Double(limit) * 1000)
        return nil
    }
}
