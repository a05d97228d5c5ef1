internal import CLinux

/// A signal number of Linux. Unknown values survive.
public struct Signal: RawRepresentable, Hashable, Sendable {
    public var rawValue: Int32
    public init(rawValue: Int32) { self.rawValue = rawValue }

    public static let hangUp = Self(rawValue: 1)
    public static let interrupt = Self(rawValue: 2)
    public static let abort = Self(rawValue: 6)
    public static let kill = Self(rawValue: 9)
    public static let user1 = Self(rawValue: 10)
    public static let segmentationFault = Self(rawValue: 11)
    public static let user2 = Self(rawValue: 12)
    public static let brokenPipe = Self(rawValue: 13)
    public static let terminate = Self(rawValue: 15)
    public static let child = Self(rawValue: 17)
    public static let `continue` = Self(rawValue: 18)
    public static let stop = Self(rawValue: 19)

    /// The first real-time signal that libc leaves to programs. The project uses it to make a blocked ioctl return.
    public static var kick: Self { Self(rawValue: tdxd_first_realtime_signal()) }
}

extension Signal: CustomStringConvertible {
    public var description: String {
        let names: [Int32: String] = [
            1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
            9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
            17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP", 31: "SIGSYS",
        ]
        return names[rawValue] ?? "signal \(rawValue)"
    }
}

/// What a process or thread does about signals.
public enum Signals {
    /// Blocks signals in the calling thread and in threads that it starts from now on. Call it before any thread runs.
    public static func block(_ signals: [Signal]) throws(LinuxError) { try change(0, signals) }

    /// Lets the calling thread receive signals.
    public static func unblock(_ signals: [Signal]) throws(LinuxError) { try change(1, signals) }

    /// Gives a signal a handler that does nothing, so that its only effect is EINTR in the thread that receives it.
    public static func makeInterrupting(_ signal: Signal) throws(LinuxError) {
        try LinuxError.check(tdxd_make_signal_interrupt(signal.rawValue), "sigaction", "\(signal)")
    }

    /// SIG_IGN, as daemons do with SIGPIPE.
    public static func ignore(_ signal: Signal) throws(LinuxError) {
        try LinuxError.check(tdxd_ignore_signal(signal.rawValue), "sigaction", "\(signal)")
    }

    private static func change(_ how: Int32, _ signals: [Signal]) throws(LinuxError) {
        var before: UInt64 = 0
        try LinuxError.check(tdxd_signal_mask(how, bits(signals), &before), "pthread_sigmask", "\(signals)")
    }

    static func bits(_ signals: [Signal]) -> UInt64 {
        signals.reduce(0) { bits, signal in
            precondition((1...64).contains(signal.rawValue), "\(signal) is not a signal number from 1 to 64")
            return bits | 1 << UInt64(signal.rawValue - 1)
        }
    }
}

/// signalfd(2): blocked signals as events of a loop. The descriptor is non-blocking and readable when a signal waits.
public struct SignalSource: ~Copyable, Sendable {
    public struct Event: Hashable, Sendable {
        public var signal: Signal
        public var senderPID: Int32
        public var senderUID: UInt32
    }

    public let descriptor: OwnedDescriptor

    /// Blocks the signals in the calling thread first, otherwise they would still be delivered.
    public init(_ signals: [Signal]) throws(LinuxError) {
        try Signals.block(signals)
        let number = try LinuxError.check(tdxd_signalfd(Signals.bits(signals)), "signalfd", "\(signals)")
        descriptor = OwnedDescriptor(taking: number)
    }

    /// The next signal; nil when none waits.
    public func next() throws(LinuxError) -> Event? {
        var raw = tdxd_signal_event()
        guard try LinuxError.check(tdxd_read_signalfd(descriptor.rawValue, &raw), "read(signalfd)") == 1 else {
            return nil
        }
        return Event(
            signal: Signal(rawValue: Int32(raw.number)), senderPID: Int32(bitPattern: raw.pid), senderUID: raw.uid)
    }
}
