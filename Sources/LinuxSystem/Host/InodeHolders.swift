internal import CLinux
internal import SystemPackage

/// Who holds a file: the processes with a descriptor or mapping of it, from one look through /proc.
///
/// What cannot be read, or not within the time of the look, is reported, never counted as "holds nothing".
public struct InodeHolders: Hashable, Sendable {
    public struct Holder: Hashable, Sendable {
        public enum Means: Hashable, Sendable {
            case descriptor(Int32)
            /// Mappings of the file in the process.
            case mappings(count: Int)
        }
        public var pid: Int32
        public var file: FileIdentity
        public var means: Means

        public init(pid: Int32, file: FileIdentity, means: Means) {
            self.pid = pid
            self.file = file
            self.means = means
        }
    }

    /// How long a look may take. A user decides how many descriptors and mappings its processes have.
    public struct Patience: Hashable, Sendable {
        /// For one process, in the first round.
        public var perProcess: Duration
        /// For all of them. What has not been looked through by then is unseen.
        public var total: Duration

        public init(perProcess: Duration, total: Duration) {
            self.perProcess = perProcess
            self.total = total
        }

        public static let standard = Patience(perProcess: .milliseconds(50), total: .seconds(1))
    }

    /// In order of process number.
    public var holders: [Holder]
    /// Processes that exist and whose descriptors or mappings this process may not read.
    public var unseen: [Int32]
    /// Processes that have so many descriptors and mappings that the time was over before all were looked at.
    public var unfinished: [Int32]
    /// Processes that were looked into, from the first descriptor to the last mapping.
    public var processesSeen: Int

    package init(holders: [Holder], unseen: [Int32], unfinished: [Int32] = [], processesSeen: Int) {
        self.holders = holders
        self.unseen = unseen
        self.unfinished = unfinished
        self.processesSeen = processesSeen
    }

    /// Of those that were asked for together, what concerns some of the files.
    public func holders(of files: Set<FileIdentity>) -> Self {
        var result = self
        result.holders.removeAll { !files.contains($0.file) }
        return result
    }

    /// Looks at every process of this PID namespace: those of root and of the caller's user first, and those that need
    /// longer than `patience.perProcess` last. Processes that end meanwhile are passed over.
    ///
    /// A descriptor in flight inside a UNIX socket's message belongs to no process and is not found.
    /// - Parameters:
    ///   - excluding: process numbers that are not looked into, such as the caller's own.
    ///   - patience: beyond it processes are `unfinished`.
    public static func find(
        _ files: Set<FileIdentity>, excluding: Set<Int32> = [], procDirectory: String = "/proc",
        patience: Patience = .standard
    ) throws(LinuxError) -> Self {
        var result = Self(holders: [], unseen: [], processesSeen: 0)
        let end = MonotonicInstant.now + patience.total
        let pids = try TextFile.list(procDirectory).compactMap { Int32($0) }.filter { !excluding.contains($0) }
        var left: [Int32] = []
        for pid in trustedFirst(pids, procDirectory) {
            let now = MonotonicInstant.now
            guard now < end else {
                left.append(pid)
                continue
            }
            let isDone = result.look(into: pid, files, procDirectory, until: min(end, now + patience.perProcess))
            if !isDone { left.append(pid) }
        }
        for pid in left {
            if MonotonicInstant.now < end, result.look(into: pid, files, procDirectory, until: end) { continue }
            result.unfinished.append(pid)
        }
        result.holders.sort { ($0.pid, "\($0.means)") < ($1.pid, "\($1.means)") }
        result.unseen.sort()
        result.unfinished.sort()
        return result
    }

    /// Those of root and of this user, which no other user can make many, before all others.
    private static func trustedFirst(_ pids: [Int32], _ procDirectory: String) -> [Int32] {
        let own = CurrentProcess.effectiveUID
        var others: [Int32] = []
        var trusted: [Int32] = []
        for pid in pids.sorted() {
            let uid = (try? FileStatus(ofPath: "\(procDirectory)/\(pid)"))?.ownerUID
            if uid == 0 || uid == own { trusted.append(pid) } else { others.append(pid) }
        }
        return trusted + others
    }

    /// - Returns: false where the time was over before everything was looked at; what was found until then counts.
    private mutating func look(
        into pid: Int32, _ files: Set<FileIdentity>, _ procDirectory: String, until deadline: MonotonicInstant
    ) -> Bool {
        let process = "\(procDirectory)/\(pid)"
        var found = Found(pid: pid, files: files)
        let isDone: Bool
        do throws(LinuxError) {
            let hasTime = try found.readDescriptors(process, deadline)
            isDone = hasTime ? try found.readMappings(process, deadline) : false
        } catch {
            // Neither has one that has ended meanwhile, nor the kernel's own threads, descriptors or memory of their
            // own.
            if error.errno != .noSuchFileOrDirectory, error.errno != .noSuchProcess, !Self.isKernelThread(process) {
                unseen.append(pid)
            }
            return true
        }
        // A second look at a process finds what the first one did, and more.
        holders.removeAll { $0.pid == pid }
        holders += found.holders
        if isDone { processesSeen += 1 }
        return isDone
    }

    /// What one process has of the files.
    private struct Found {
        let pid: Int32
        let files: Set<FileIdentity>
        var descriptors: [Holder] = []
        var mappings: [FileIdentity: Int] = [:]

        init(pid: Int32, files: Set<FileIdentity>) {
            self.pid = pid
            self.files = files
        }

        var holders: [Holder] {
            descriptors + mappings.map { Holder(pid: pid, file: $0.key, means: .mappings(count: $0.value)) }
        }

        /// - Returns: false at the deadline.
        mutating func readDescriptors(_ process: String, _ deadline: MonotonicInstant) throws(LinuxError) -> Bool {
            let result = withUnsafeMutablePointer(to: &self) { found in
                tdxd_look_at_descriptors("\(process)/fd", Int64(clamping: deadline.nanoseconds), found) {
                    // Sound: the pointer is this call's own, and it is used on this thread until the call returns.
                    let found = $0!.assumingMemoryBound(to: Found.self)
                    let file = FileIdentity(device: $2, inode: $3)
                    guard found.pointee.files.contains(file) else { return }
                    found.pointee.descriptors.append(
                        Holder(pid: found.pointee.pid, file: file, means: .descriptor($1)))
                }
            }
            return try LinuxError.check(result, "readdir", "\(process)/fd") == 0
        }

        /// - Returns: false at the deadline.
        mutating func readMappings(_ process: String, _ deadline: MonotonicInstant) throws(LinuxError) -> Bool {
            let result = withUnsafeMutablePointer(to: &self) { found in
                tdxd_look_at_mappings("\(process)/maps", Int64(clamping: deadline.nanoseconds), found) {
                    let found = $0!.assumingMemoryBound(to: Found.self)
                    let file = FileIdentity(device: $1, inode: $2)
                    if found.pointee.files.contains(file) { found.pointee.mappings[file, default: 0] += 1 }
                }
            }
            return try LinuxError.check(result, "read", "\(process)/maps") == 0
        }
    }

    /// Whether /proc/PID/stat, which everyone may read, shows PF_KTHREAD (0x200000) among the flags. They are the
    /// seventh field after the name, which is in parentheses and may contain anything.
    private static func isKernelThread(_ process: String) -> Bool {
        guard let text = try? TextFile.read("\(process)/stat", limit: 64 << 10),
            let name = text.lastIndex(of: ")")
        else { return false }
        let fields = text[text.index(after: name)...].split(separator: " ", omittingEmptySubsequences: true)
        return fields.count > 6 && (UInt64(fields[6]) ?? 0) & 0x20_0000 != 0
    }
}
