internal import CLastWill
internal import CLinux
internal import SystemPackage

/// What a last will has written down, as another process reads it.
public struct LastWillRecord: Hashable, Sendable {
    public enum State: UInt32, Hashable, Sendable {
        /// There was nothing to do when it was written.
        case standingBy = 1
        /// There was, and no process has done it.
        case armed
        /// The owner had died, and the ioctl was made.
        case acted
        /// The owner had died, and there was nothing to do.
        case notNeeded
    }

    public var state: State
    public var pid: Int32
    /// Of the last attempt: 0 or more, or −errno. Meaningless unless `acted`.
    public var result: Int32
    public var attempts: UInt32
    public var isRehearsal: Bool
    /// When the owner was seen to be dead, and when the last attempt returned.
    public var noticed: MonotonicInstant
    public var done: MonotonicInstant
    /// The third word of the ioctl's argument, as the kernel left it.
    public var status: UInt64

    /// A record and whether it may still change.
    public struct Reading: Hashable, Sendable {
        public var record: LastWillRecord
        /// Neither the owner nor the will is there any more.
        public var isFinal: Bool

        package init(record: LastWillRecord, isFinal: Bool) {
            self.record = record
            self.isFinal = isFinal
        }
    }

    package init(
        state: State, pid: Int32, result: Int32 = 0, attempts: UInt32 = 0, isRehearsal: Bool = false,
        noticed: MonotonicInstant = .now, done: MonotonicInstant = .now, status: UInt64 = 0
    ) {
        self.state = state
        self.pid = pid
        self.result = result
        self.attempts = attempts
        self.isRehearsal = isRehearsal
        self.noticed = noticed
        self.done = done
        self.status = status
    }

    /// Reads a record, as soon as neither owner nor will is there any more, or after `patience`.
    /// - Returns: nil when there is no record.
    /// - Throws: EBADMSG for an invalid record, and what the kernel refused.
    public static func read(at path: String, patience: Duration) throws(LinuxError) -> Reading? {
        let number = tdxd_open(path, 0, 0)
        if number == -Errno.noSuchFileOrDirectory.rawValue { return nil }
        let file = OwnedDescriptor(taking: try LinuxError.check(number, "open", path))
        let deadline = MonotonicInstant.now + patience
        var pause: UInt64 = 1
        while true {
            let answer = tdxd_last_will_lock_is_free(file.rawValue)
            if answer == 0 { return Reading(record: try LastWillRecord(file, path), isFinal: true) }
            guard answer == -Errno.wouldBlock.rawValue || answer == -Errno.interrupted.rawValue else {
                throw LinuxError("flock", Errno(rawValue: -answer), detail: path)
            }
            guard MonotonicInstant.now < deadline else {
                return Reading(record: try LastWillRecord(file, path), isFinal: false)
            }
            CurrentThread.sleep(milliseconds: pause)
            pause = min(pause * 2, 20)
        }
    }

    private init(_ file: borrowing OwnedDescriptor, _ path: String) throws(LinuxError) {
        var raw = tdxd_last_will_record()
        let size = MemoryLayout<tdxd_last_will_record>.size
        let count = try LinuxError.retrying("pread", path) { tdxd_pread(file.rawValue, &raw, size, 0) }
        let magic = withUnsafeBytes(of: raw.magic) { Array($0) }
        guard count == size, magic == Array("TDXDWILL".utf8), raw.version == 1, let state = State(rawValue: raw.state)
        else { throw LinuxError("pread", Errno(rawValue: 74), detail: "\(path): invalid record") }  // EBADMSG
        self.state = state
        pid = raw.pid
        result = raw.result
        attempts = raw.attempts
        isRehearsal = raw.rehearsal != 0
        noticed = MonotonicInstant(nanoseconds: raw.noticed_ns)
        done = MonotonicInstant(nanoseconds: raw.done_ns)
        status = raw.status
    }
}
