/// What /proc/PID/stat shows of a process. Every user may read it, unless /proc is mounted with hidepid.
public struct ProcessStat: Hashable, Sendable {
    /// The program's name: 15 bytes at most, chosen by the program itself.
    public var program: String
    /// The state's letter: R, S, D, Z, …
    public var state: Character
    /// The kernel's flags of the task (PF_…).
    public var flags: UInt64
    /// When the process started, in clock ticks (1/100 s) since boot. Together with the number it names a process.
    public var startTicks: UInt64

    /// A thread of the kernel's own: PF_KTHREAD. It has no descriptors and no memory of its own.
    public var isKernelThread: Bool { flags & 0x20_0000 != 0 }
    /// It has ended and was not reaped: its descriptors are closed.
    public var isZombie: Bool { state == "Z" || state == "X" }

    /// Reads "PID (NAME) STATE …". The name may contain anything, parentheses too; the last ")" ends it. Nil for other
    /// texts.
    public init?(parsing text: String) {
        guard let open = text.firstIndex(of: "("), let close = text.lastIndex(of: ")"), open < close else { return nil }
        // Of these, the state is the third field of stat(5), the flags the ninth, the start the twenty-second.
        let fields = text[text.index(after: close)...].split(whereSeparator: \.isWhitespace)
        guard fields.count >= 20, let state = fields[0].first, let flags = UInt64(fields[6]),
            let start = UInt64(fields[19])
        else { return nil }
        program = String(text[text.index(after: open)..<close])
        self.state = state
        self.flags = flags
        startTicks = start
    }

    /// Nil when the process is gone or hidden.
    public static func read(pid: Int32, procDirectory: String = "/proc") -> Self? {
        (try? TextFile.read("\(procDirectory)/\(pid)/stat", limit: 64 << 10)).flatMap { Self(parsing: $0) }
    }
}
