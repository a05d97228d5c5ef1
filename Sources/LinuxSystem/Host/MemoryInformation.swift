public import MemoryUnits
internal import SystemPackage

/// /proc/meminfo, the lines that the project looks at.
public struct MemoryInformation: Hashable, Sendable {
    public var total: ByteCount
    public var free: ByteCount
    /// The kernel's estimate of what can be allocated without swapping.
    public var available: ByteCount
    /// Page cache, where guest_memfd pages count.
    public var cached: ByteCount
    public var sharedMemory: ByteCount
    /// Pages that reclaim passes by, guest_memfd's among them.
    public var unevictable: ByteCount

    /// Reads the host's.
    public static func ofHost() throws(LinuxError) -> Self {
        let text = try TextFile.read("/proc/meminfo")
        guard let parsed = Self(parsing: text) else {
            throw LinuxError("read", .invalidArgument, detail: "/proc/meminfo has no MemTotal, MemFree or MemAvailable")
        }
        return parsed
    }

    /// Reads the text of /proc/meminfo; nil without MemTotal, MemFree and MemAvailable.
    public init?(parsing text: String) {
        var values: [Substring: ByteCount] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ", omittingEmptySubsequences: true)
            guard words.count == 3, words[2] == "kB", words[0].last == ":", let kibibytes = UInt64(words[1]),
                kibibytes <= UInt64.max >> 10
            else { continue }
            values[words[0].dropLast()] = .kibibytes(kibibytes)
        }
        guard let total = values["MemTotal"], let free = values["MemFree"], let available = values["MemAvailable"]
        else { return nil }
        self.total = total
        self.free = free
        self.available = available
        cached = values["Cached"] ?? .zero
        sharedMemory = values["Shmem"] ?? .zero
        unevictable = values["Unevictable"] ?? .zero
    }
}

/// A process's own memory, from /proc/PID/status.
public struct ProcessMemory: Hashable, Sendable {
    /// Resident set size, all kinds. guest_memfd pages count only where they are mapped into the process.
    public var resident: ByteCount
    public var residentAnonymous: ByteCount
    /// The highest resident set size so far.
    public var peakResident: ByteCount
    public var threads: Int

    /// - Parameter pid: nil for this process.
    public static func of(pid: Int32? = nil) throws(LinuxError) -> Self {
        let path = "/proc/\(pid.map { String($0) } ?? "self")/status"
        guard let parsed = Self(parsing: try TextFile.read(path)) else {
            throw LinuxError("read", .invalidArgument, detail: "\(path) has no VmRSS")
        }
        return parsed
    }

    /// Reads the text of /proc/PID/status; nil for a kernel thread or a zombie, which have no memory.
    public init?(parsing text: String) {
        var values: [Substring: UInt64] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(omittingEmptySubsequences: true) { $0 == " " || $0 == "\t" }
            guard words.count >= 2, words[0].last == ":", let value = UInt64(words[1]) else { continue }
            values[words[0].dropLast()] = value
        }
        guard let resident = values["VmRSS"], let threads = values["Threads"] else { return nil }
        self.resident = .kibibytes(resident)
        residentAnonymous = .kibibytes(values["RssAnon"] ?? 0)
        peakResident = .kibibytes(values["VmHWM"] ?? resident)
        self.threads = Int(threads)
    }
}
