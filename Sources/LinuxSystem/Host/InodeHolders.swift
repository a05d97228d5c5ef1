internal import CLinux
internal import SystemPackage

/// Who holds a file: the processes with a descriptor or mapping of it, from one look through /proc.
///
/// What cannot be looked into is said, never counted as "holds nothing".
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

    /// In order of process number.
    public var holders: [Holder]
    /// Processes that exist and whose descriptors or mappings this process may not read.
    public var unseen: [Int32]
    /// Processes that were looked into.
    public var processesSeen: Int

    /// Looks at every process of this PID namespace. Processes that end meanwhile are passed over.
    ///
    /// A descriptor in flight inside a UNIX socket's message is nobody's and is not found.
    /// - Parameter excluding: process numbers that are not looked into, such as the caller's own.
    public static func find(
        _ files: Set<FileIdentity>, excluding: Set<Int32> = [], procDirectory: String = "/proc"
    ) throws(LinuxError) -> Self {
        var result = Self(holders: [], unseen: [], processesSeen: 0)
        let pids = try TextFile.list(procDirectory).compactMap { Int32($0) }.sorted()
        for pid in pids where !excluding.contains(pid) {
            do throws(LinuxError) {
                let process = "\(procDirectory)/\(pid)"
                let found = try descriptors(process, pid, files) + mappings(process, pid, files)
                result.holders += found
                result.processesSeen += 1
            } catch  where error.errno == .noSuchFileOrDirectory || error.errno == .noSuchProcess {
                continue  // ended meanwhile
            } catch {
                // The kernel's own threads have neither descriptors nor memory of their own.
                if !isKernelThread("\(procDirectory)/\(pid)") { result.unseen.append(pid) }
            }
        }
        return result
    }

    /// Whether /proc/PID/stat, which everyone may read, shows PF_KTHREAD (0x200000) among the flags. They are the seventh
    /// field behind the name, which is in parentheses and may contain anything.
    private static func isKernelThread(_ process: String) -> Bool {
        guard let text = try? TextFile.read("\(process)/stat", limit: 64 << 10),
            let name = text.lastIndex(of: ")")
        else { return false }
        let fields = text[text.index(after: name)...].split(separator: " ", omittingEmptySubsequences: true)
        return fields.count > 6 && (UInt64(fields[6]) ?? 0) & 0x20_0000 != 0
    }

    private static func descriptors(
        _ process: String, _ pid: Int32, _ files: Set<FileIdentity>
    ) throws(LinuxError) -> [Holder] {
        var found: [Holder] = []
        for name in try TextFile.list("\(process)/fd") {
            guard let number = Int32(name) else { continue }
            // stat(2) through the link reaches the open file itself; it opens nothing. A descriptor that was closed
            // meanwhile is passed over. One that may not be looked behind, as from inside a Landlock domain, is not.
            let status: FileStatus
            do throws(LinuxError) {
                status = try FileStatus(ofPath: "\(process)/fd/\(name)")
            } catch {
                if error.errno == .permissionDenied || error.errno == .notPermitted { throw error }
                continue
            }
            if files.contains(status.identity) {
                found.append(Holder(pid: pid, file: status.identity, means: .descriptor(number)))
            }
        }
        return found.sorted { "\($0.means)" < "\($1.means)" }
    }

    private static func mappings(
        _ process: String, _ pid: Int32, _ files: Set<FileIdentity>
    ) throws(LinuxError) -> [Holder] {
        var counts: [FileIdentity: Int] = [:]
        for line in try TextFile.read("\(process)/maps", limit: 256 << 20).utf8.split(separator: UInt8(ascii: "\n")) {
            guard let identity = identity(ofMapping: Substring(line)), files.contains(identity) else { continue }
            counts[identity, default: 0] += 1
        }
        return counts.map { Holder(pid: pid, file: $0.key, means: .mappings(count: $0.value)) }
    }

    /// Reads device and inode of one line of /proc/PID/maps: "START-END PERMS OFFSET MAJOR:MINOR INODE   PATH".
    static func identity(ofMapping line: Substring) -> FileIdentity? {
        let words = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
        guard words.count >= 5, let inode = UInt64(words[4]), inode != 0 else { return nil }
        let device = words[3].split(separator: ":")
        guard device.count == 2, let major = UInt32(device[0], radix: 16), let minor = UInt32(device[1], radix: 16)
        else { return nil }
        return FileIdentity(device: tdxd_device_number(major, minor), inode: inode)
    }
}
