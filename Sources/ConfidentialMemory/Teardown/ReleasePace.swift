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
    /// Longest sleep until a changed pace is noticed, in nanoseconds.
    private static let longestSleep: UInt64 = 20_000_000

    /// - Parameter bytesPerSecond: nil for as fast as it goes; 0 counts as 1.
    public init(_ bytesPerSecond: UInt64? = nil) {
        state = Mutex(State(bytesPerSecond: Self.checked(bytesPerSecond)))
    }

    /// Nil for as fast as it goes.
    public var bytesPerSecond: UInt64? { state.withLock { $0.bytesPerSecond } }

    /// From now on. A waiting thread notices within 20 ms.
    ///
    /// Bytes that were given back and are not paid for yet stay owed: they are waited for at the new pace. Setting the same
    /// pace again changes nothing.
    /// - Parameter bytesPerSecond: nil for as fast as it goes; 0 counts as 1.
    public func set(_ bytesPerSecond: UInt64?) {
        set(bytesPerSecond, at: .now)
    }

    func set(_ bytesPerSecond: UInt64?, at now: MonotonicInstant) {
        let checked = Self.checked(bytesPerSecond)
        state.withLock { state in
            defer { state.bytesPerSecond = checked }
            guard let former = state.bytesPerSecond, let checked, now < state.due else {
                if checked == nil { state.due = now }
                return
            }
            let owed = state.due.milliseconds(since: now) / 1000 * Double(former)
            state.due = now.adding(milliseconds: owed / Double(checked) * 1000)
        }
    }

    /// A pace of 0 would never end.
    private static func checked(_ bytesPerSecond: UInt64?) -> UInt64? { bytesPerSecond.map { max(1, $0) } }

    /// Blocks until `bytes` may be given back.
    /// - Parameter waiting: called every 20 ms meanwhile, so that others see that the work is alive.
    func admit(_ bytes: ByteCount, waiting: () -> Void) {
        while let wait = take(bytes, at: .now) {
            usleep(UInt32(min(wait, Self.longestSleep) / 1000) + 1)
            waiting()
        }
    }

    /// Takes the bytes, unless earlier ones are not paid for yet.
    /// - Returns: nanoseconds until it is worth asking again; nil when the bytes were taken.
    func take(_ bytes: ByteCount, at now: MonotonicInstant) -> UInt64? {
        state.withLock { state in
            guard let limit = state.bytesPerSecond else { return nil }
            if now < state.due { return UInt64(state.due.milliseconds(since: now) * 1e6) }
            // Time that went unused is not made up for: a pace is a bound at every moment.
            state.due = now.adding(milliseconds: Double(bytes.rawValue) / Double(limit) * 1000)
            return nil
        }
    }
}
