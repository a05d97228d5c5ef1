internal import Glibc
internal import LinuxSystem
internal import SystemPackage
public import Testing

/// The machine of scripts/test-tdx: Linux's own TDX code on the software TDX module.
public enum SeamLab {
    private static func setting(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    public static let isHere = setting("TDXD_SEAM_LAB") == "yes"
    /// scripts/test-tdx gives the kernel one more, which becomes the module's own.
    public static let keyIDs: UInt64 = setting("TDXD_SEAM_KEYS").flatMap { UInt64($0) } ?? 4
    /// Lives of TDs one after the other: TDXD_SEAM_LIVES, or 10, which take about 20 s.
    public static let lives = setting("TDXD_SEAM_LIVES").flatMap { Int($0) } ?? 10
    /// What is special about this machine, if anything: the fault that its module's process has planned, or a limit.
    public static let fault = setting("TDXD_SEAM_FAULT")

    /// Sizes in MiB of TDs whose ends are measured: TDXD_SEAM_SIZES, or none.
    public static let sizes = (setting("TDXD_SEAM_SIZES") ?? "").split(separator: " ").compactMap { UInt64($0) }

    // MARK: Key ids

    public static func capacity() throws -> UInt64? { try amount("misc.capacity") }
    public static func keysInUse() throws -> UInt64? { try amount("misc.current") }

    private static func amount(_ file: String) throws -> UInt64? {
        for line in try TextFile.read("/sys/fs/cgroup/\(file)").split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 2, words[0] == "tdx" { return UInt64(words[1]) }
        }
        return nil
    }

    /// - Parameter file: below /sys/fs/cgroup.
    public static func write(_ text: String, to file: String) throws {
        try write(text, path: "/sys/fs/cgroup/\(file)")
    }

    // MARK: The lab's own files

    private static let folder = "/sys/kernel/debug/seamlab/"

    /// Whether the machine's kernel has `terminate`, `order` and `calls`: one that ../shared has ready may be older.
    public static let hasOrders = access(folder + "order", F_OK) == 0
    public static let lacksOrders: Comment =
        "the lab's kernel is older than scripts/lab/seamlab.c; scripts/kernel-lab --build-only builds one"

    /// What the kernel makes of KVM_TDX_TERMINATE_VM.
    public enum Termination: String, Sendable, CaseIterable {
        case absent, announced, unannounced
    }

    /// Carries out `body` while the kernel has that of KVM_TDX_TERMINATE_VM; it has none otherwise.
    public static func with<Result>(_ termination: Termination, _ body: () throws -> Result) throws -> Result {
        try write(termination.rawValue, path: folder + "terminate")
        defer { try? write(Termination.absent.rawValue, path: folder + "terminate") }
        return try body()
    }

    /// A line for the module's process; see tdx-module-server.
    public static func order(_ line: String) throws { try write(line, path: folder + "order") }

    /// SEAMCALLs since the machine was started, by the number of their leaf.
    public static func calls() throws -> [Int: UInt64] {
        var calls: [Int: UInt64] = [:]
        for line in try TextFile.read(folder + "calls").split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2, let leaf = Int(words[0]), let count = UInt64(words[1]) else { continue }
            calls[leaf] = count
        }
        return calls
    }

    /// SEAMCALLs of the whole machine while `body` runs, by the number of their leaf; leaves that were not called are absent.
    public static func counting(_ body: () throws -> Void) throws -> [Int: UInt64] {
        let before = try calls()
        try body()
        return try calls().compactMapValues { $0 }.reduce(into: [:]) { counts, entry in
            let more = entry.value - (before[entry.key] ?? 0)
            if more > 0 { counts[entry.key] = more }
        }
    }

    private static func write(_ text: String, path: String) throws {
        let file = try OwnedDescriptor.open(path: path, .writeOnly)
        let count = Glibc.write(file.rawValue, text, text.utf8.count)
        guard count == text.utf8.count else { throw LinuxError("write", Errno(rawValue: errno), detail: path) }
    }
}
