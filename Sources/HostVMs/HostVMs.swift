internal import CLinux
public import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// The processes of a host that hold KVM VMs, from one look through /proc.
///
/// What may not be looked into is counted, never taken for a process without a VM.
public struct HostVMs: Hashable, Sendable {
    /// A process whose descriptors this process may not list.
    public struct Unseen: Hashable, Sendable {
        public var pid: Int32
        public var program: String?

        public init(pid: Int32, program: String?) {
            self.pid = pid
            self.program = program
        }
    }

    /// In order of process numbers.
    public var processes: [VMProcess]
    /// Processes whose descriptors were all listed, with or without a VM.
    public var processesSeen: Int
    /// In order of process numbers.
    public var unseen: [Unseen]
    /// /proc leaves other users' processes out (hidepid), so that even their number is unknown.
    public var othersAreHidden: Bool

    public init(
        processes: [VMProcess] = [], processesSeen: Int = 0, unseen: [Unseen] = [], othersAreHidden: Bool = false
    ) {
        self.processes = processes
        self.processesSeen = processesSeen
        self.unseen = unseen
        self.othersAreHidden = othersAreHidden
    }

    /// Every process was looked into, and every descriptor that matters.
    public var isComplete: Bool { unseen.isEmpty && !othersAreHidden && processes.allSatisfy { $0.unreadable == 0 } }

    /// Each guest_memfd once, however many processes hold it.
    public var files: [FileIdentity: VMProcess.GuestFile] {
        var files: [FileIdentity: VMProcess.GuestFile] = [:]
        for file in processes.flatMap(\.files) { files[file.identity] = file }
        return files
    }

    /// Leaves processes out that hold nothing but these files, such as one that a TD's holder started.
    public func withoutHolders(ofFilesAmong known: Set<FileIdentity>) -> Self {
        var result = self
        result.processes.removeAll { process in
            process.isConfidential && process.unreadable == 0
                && process.files.allSatisfy { known.contains($0.identity) }
        }
        return result
    }

    /// Looks at every process of this PID namespace. Processes that end meanwhile are left out. Opens nothing but
    /// directories and texts of /proc, and duplicates guest_memfds for a moment where their residency is counted.
    ///
    /// Rights: another user's descriptors are listed with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH; a process that is not
    /// dumpable needs CAP_SYS_PTRACE even of its own user. Source: reference/vmm.md §10.
    /// - Parameters:
    ///   - excluding: process numbers that are not looked into.
    ///   - countingResident: counts each guest_memfd's resident bytes: pidfd_getfd(2) and cachestat(2). Takes about 10
    ///     ms for a GiB that is resident.
    /// - Throws: where /proc itself cannot be listed.
    public static func look(
        excluding: Set<Int32> = [], countingResident: Bool = false, procDirectory: String = "/proc"
    ) throws(LinuxError) -> Self {
        var result = Self(othersAreHidden: ProcessVisibility.othersAreHidden(procDirectory: procDirectory))
        let pids = try TextFile.list(procDirectory).compactMap { Int32($0) }.sorted()
        for pid in pids where !excluding.contains(pid) {
            do throws(LinuxError) {
                let found = try LinkSearch.find("kvm", in: "\(procDirectory)/\(pid)/fd")
                result.processesSeen += 1
                if let process = process(pid, found.links, countingResident, procDirectory) {
                    result.processes.append(process)
                }
            } catch  where error.errno == .noSuchFileOrDirectory || error.errno == .noSuchProcess {
                continue  // ended meanwhile
            } catch {
                let stat = ProcessStat.read(pid: pid, procDirectory: procDirectory)
                // A kernel thread has no descriptors, a process that has ended has closed them.
                if stat?.isKernelThread == true || stat?.isZombie == true { continue }
                result.unseen.append(Unseen(pid: pid, program: stat?.program))
            }
        }
        return result
    }

    /// Nil when none of the descriptors is of a VM.
    private static func process(
        _ pid: Int32, _ links: [LinkSearch.Link], _ countingResident: Bool, _ procDirectory: String
    ) -> VMProcess? {
        let directory = "\(procDirectory)/\(pid)"
        var process = VMProcess(pid: pid, startTicks: 0, program: "?")
        var files: [FileIdentity: VMProcess.GuestFile] = [:]
        var pidfd: ProcessDescriptors?
        for link in links {
            switch KVMLink(link.target) {
            case .vm: process.vmDescriptors += 1
            case .vcpu: process.vcpuDescriptors += 1
            case .guestMemory:
                // stat(2) through the link reaches the open file itself; it opens nothing.
                guard let status = try? FileStatus(ofPath: "\(directory)/fd/\(link.name)") else {
                    process.unreadable += 1
                    continue
                }
                guard files[status.identity] == nil else { continue }
                var file = VMProcess.GuestFile(identity: status.identity, bytes: status.size.rawValue)
                if countingResident, let number = Int32(link.name) {
                    if pidfd == nil { pidfd = ProcessDescriptors(pid: pid) }
                    file.residentBytes = pidfd?.residentBytes(number, of: status.identity)
                }
                files[status.identity] = file
            case nil: continue
            }
        }
        guard process.vmDescriptors + process.vcpuDescriptors + process.unreadable > 0 || !files.isEmpty else {
            return nil
        }
        process.files = files.values.sorted {
            ($0.identity.device, $0.identity.inode) < ($1.identity.device, $1.identity.inode)
        }
        describe(&process, directory, procDirectory)
        return process
    }

    private static func describe(_ process: inout VMProcess, _ directory: String, _ procDirectory: String) {
        if let stat = ProcessStat.read(pid: process.pid, procDirectory: procDirectory) {
            process.program = stat.program
            process.startTicks = stat.startTicks
        }
        process.ownerUID = (try? FileStatus(ofPath: directory))?.ownerUID
        process.controlGroup = (try? TextFile.read("\(directory)/cgroup", limit: 64 << 10))
            .flatMap { ControlGroupNames.path(in: $0) }
        let arguments = try? TextFile.readBytes("\(directory)/cmdline", limit: 2 << 20)
        let name =
            arguments.flatMap { CommandLineNames.name(in: $0) }
            ?? process.unit.flatMap { ControlGroupNames.machine(of: $0) }
            ?? process.controlGroup.flatMap { ControlGroupNames.pod(of: $0) }.map { "pod \($0)" }
        process.name = name.map { String($0.prefix(255)) }
    }
}

/// What a link in /proc/PID/fd is of, by the names that KVM gives its files.
enum KVMLink: Hashable {
    case vm, vcpu, guestMemory

    /// "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0", "anon_inode:[kvm-gmem]" (Linux 6.8 to 7.2); a path elsewhere that
    /// only looks similar is none of them.
    init?(_ target: String) {
        guard target.hasPrefix("anon_inode:") else { return nil }
        let name = target.dropFirst(11)
        if name == "kvm-vm" {
            self = .vm
        } else if name.hasPrefix("kvm-vcpu:") {
            self = .vcpu
        } else if name == "[kvm-gmem]" || name == "kvm-gmem" {
            self = .guestMemory
        } else {
            return nil
        }
    }
}

/// Another process's descriptors, for counting.
private struct ProcessDescriptors: ~Copyable {
    private let process: ProcessHandle

    init?(pid: Int32) {
        guard let process = try? ProcessHandle(pid: pid) else { return nil }
        self.process = process
    }

    /// Resident bytes of a guest_memfd; nil without the right, or when the descriptor is of another file by now. The
    /// duplicate, which would keep memory, VM and key id, is closed before this returns.
    func residentBytes(_ number: Int32, of identity: FileIdentity) -> UInt64? {
        let raw = tdxd_pidfd_getfd(process.descriptor.rawValue, number)
        guard raw >= 0 else { return nil }
        let duplicate = OwnedDescriptor(taking: raw)
        guard (try? FileStatus(ofDescriptor: duplicate.rawValue))?.identity == identity else { return nil }
        var counters = tdxd_cachestat()
        guard tdxd_cachestat_range(duplicate.rawValue, 0, 0, &counters) == 0 else { return nil }
        return counters.nr_cache &* 4096
    }
}
