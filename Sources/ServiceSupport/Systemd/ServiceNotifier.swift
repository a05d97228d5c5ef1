internal import CSystemd
public import LinuxSystem
internal import SystemPackage

/// Reports the service's state to the service manager: sd_notify(3). Without a service manager (no NOTIFY_SOCKET in the
/// environment) every call does nothing. May be used from any thread.
public struct ServiceNotifier: Sendable {
    /// One assignment of sd_notify(3).
    public enum Message: Hashable, Sendable {
        /// Start-up, or a reload, is finished.
        case ready
        /// One line for `systemctl status`; line breaks become blanks.
        case status(String)
        /// The configuration is being read again; carries the monotonic time of this moment.
        case reloading
        /// An orderly stop has begun.
        case stopping
        /// The main loop is alive.
        case watchdog
        /// The watchdog is to act at once.
        case watchdogTrigger
        /// The present start, stop or reload takes at least this much longer, counted from now.
        case extendTimeout(Duration)
        /// The errno that the service ends with.
        case errno(Int32)
        /// The main process.
        case mainProcess(Int32)
    }

    public init() {}

    /// Sends all messages in one datagram.
    /// - Returns: false where no service manager listens.
    /// - Throws: the errno of sending.
    @discardableResult
    public func send(_ messages: Message...) throws(LinuxError) -> Bool {
        try post(messages.map(Self.encode).joined(separator: "\n"))
    }

    /// Hands a copy of a descriptor to the service manager, which gives it back under that name after a restart
    /// (`ListenSockets`). The name has 1–255 bytes, no `:` and no control characters. The unit needs
    /// FileDescriptorStoreMax=. Descriptors that poll(2) is useless for (memfds) are never dropped by the manager.
    @discardableResult
    public func store(_ descriptor: Int32, name: String) throws(LinuxError) -> Bool {
        try Self.check(name)
        return try post("FDSTORE=1\nFDNAME=\(name)\nFDPOLL=0", descriptors: [descriptor])
    }

    /// Takes every descriptor of that name out of the store again. What stays there stays open: a forgotten guest_memfd
    /// keeps its memory.
    @discardableResult
    public func removeStored(name: String) throws(LinuxError) -> Bool {
        try Self.check(name)
        return try post("FDSTOREREMOVE=1\nFDNAME=\(name)")
    }

    /// Waits until the service manager has read everything that was sent before: sd_notify_barrier(3), systemd 246.
    /// - Returns: false where no service manager listens.
    /// - Throws: `ETIMEDOUT`, or the errno of sending.
    @discardableResult
    public func awaitProcessing(timeout: Duration) throws(LinuxError) -> Bool {
        let result = sd_notify_barrier(0, UInt64(clamping: Self.microseconds(timeout)))
        guard result >= 0 else { throw LinuxError("sd_notify_barrier", Errno(rawValue: -result)) }
        return result > 0
    }

    /// How often `watchdog` must be sent at least; send it twice as often. Nil where the unit has no WatchdogSec= or
    /// this is not the process that it watches.
    public static func watchdogInterval() throws(LinuxError) -> Duration? {
        var microseconds: UInt64 = 0
        let result = sd_watchdog_enabled(0, &microseconds)
        guard result >= 0 else { throw LinuxError("sd_watchdog_enabled", Errno(rawValue: -result)) }
        return result > 0 ? .microseconds(Int64(clamping: microseconds)) : nil
    }

    private func post(_ state: String, descriptors: [Int32] = []) throws(LinuxError) -> Bool {
        let result = descriptors.withUnsafeBufferPointer {
            sd_pid_notify_with_fds(0, 0, state, $0.baseAddress, UInt32($0.count))
        }
        guard result >= 0 else { throw LinuxError("sd_notify", Errno(rawValue: -result), detail: state) }
        return result > 0
    }

    private static func encode(_ message: Message) -> String {
        switch message {
        case .ready: "READY=1"
        case .status(let text): "STATUS=" + text.map { $0.isNewline ? " " : String($0) }.joined()
        case .reloading: "RELOADING=1\nMONOTONIC_USEC=\(tdxd_monotonic_microseconds())"
        case .stopping: "STOPPING=1"
        case .watchdog: "WATCHDOG=1"
        case .watchdogTrigger: "WATCHDOG=trigger"
        case .extendTimeout(let time): "EXTEND_TIMEOUT_USEC=\(microseconds(time))"
        case .errno(let number): "ERRNO=\(number)"
        case .mainProcess(let pid): "MAINPID=\(pid)"
        }
    }

    /// At least 1; sub-microsecond parts are rounded up.
    private static func microseconds(_ time: Duration) -> Int64 {
        let (seconds, attoseconds) = time.components
        let whole = max(0, seconds).multipliedReportingOverflow(by: 1_000_000)
        guard !whole.overflow else { return .max }
        return max(
            1,
            whole.partialValue.addingReportingOverflow((attoseconds + 999_999_999_999) / 1_000_000_000_000).partialValue
        )
    }

    private static func check(_ name: String) throws(LinuxError) {
        let isFine = name.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f && $0 != UInt8(ascii: ":") }
        guard isFine, (1...255).contains(name.utf8.count) else {
            throw LinuxError(
                "sd_notify", .invalidArgument, detail: "FDNAME “\(name)”; it must be 1–255 printable bytes without “:”")
        }
    }
}
