internal import CLinux

/// Bounds a blocking call of the calling thread: from the deadline on, the thread gets `Signal.kick` again and again,
/// so that the call returns EINTR, until the alarm goes. Repeating closes the gap in which the signal comes just before
/// the call.
public struct ThreadAlarm: ~Copyable {
    /// timer_t, which the door hands out as a pointer.
    private let timer: UnsafeMutableRawPointer?
    private let deadline: MonotonicInstant

    /// Arms the alarm for the calling thread; use it on that thread alone.
    /// - Parameter milliseconds: at least 1.
    /// - Throws: EAGAIN when the process's limit of timers is reached.
    public init(milliseconds: UInt64) throws(LinuxError) {
        try Signals.makeInterrupting(.kick)
        try Signals.unblock([.kick])
        var timer: UnsafeMutableRawPointer?
        try LinuxError.check(
            tdxd_thread_timer_create(
                tdxd_gettid(), Signal.kick.rawValue, max(1, milliseconds) * 1_000_000, 5_000_000, &timer),
            "timer_create", "\(milliseconds) ms")
        self.timer = timer
        deadline = MonotonicInstant.now.adding(milliseconds: Double(max(1, milliseconds)))
    }

    /// Whether the deadline has passed.
    public var hasPassed: Bool { MonotonicInstant.now >= deadline }

    deinit { tdxd_thread_timer_delete(timer) }
}
