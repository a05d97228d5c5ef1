import CLinux
import ControlInterface
import Glibc
import LinuxSystem
import SystemPackage
import Testing

/// Control groups of TDs, in a group that the test hands over as systemd does. It takes root and version 2 with the memory
/// controller: the kernel lab has both.
@Suite(.serialized) struct ControlGroupTests {
    private static let root = "/sys/fs/cgroup"

    private static var isPossible: Bool {
        let controllers = (try? TextFile.read(root + "/cgroup.controllers")) ?? ""
        return geteuid() == 0 && controllers.split(whereSeparator: \.isWhitespace).contains("memory")
            && access(root + "/cgroup.subtree_control", W_OK) == 0
    }

    /// A group like that of tdxd.service with DelegateSubgroup=tdxd, removed with this object.
    private final class Service {
        let directory: String

        /// - Parameter name: of several at a time.
        init(_ name: String = "test", isDelegated: Bool = true) throws {
            try Self.write("+memory", to: ControlGroupTests.root + "/cgroup.subtree_control")
            directory = ControlGroupTests.root + "/tdxd-\(name)-\(getpid()).service"
            for path in [directory, directory + "/tdxd"] {
                guard mkdir(path, 0o755) == 0 else { throw LinuxError("mkdir", .init(rawValue: errno), detail: path) }
            }
            guard isDelegated else { return }
            let result = tdxd_set_attribute(directory, "user.delegate", "1")
            guard result == 0 else { throw LinuxError("setxattr", .init(rawValue: -result), detail: directory) }
        }

        deinit {
            for name in (try? TextFile.list(directory)) ?? [] { rmdir(directory + "/" + name) }
            rmdir(directory)
        }

        static func write(_ text: String, to path: String) throws {
            let file = open(path, O_WRONLY)
            guard file >= 0, Glibc.write(file, text, text.utf8.count) == text.utf8.count else {
                throw LinuxError("write", .init(rawValue: errno), detail: path)
            }
            close(file)
        }

        func number(_ file: String) -> UInt64? {
            (try? TextFile.read(directory + "/" + file)).flatMap { UInt64($0.prefix { !$0.isNewline }) }
        }

        func processes(_ group: String) -> [Int32] {
            ((try? TextFile.read("\(directory)/\(group)/cgroup.procs")) ?? "").split(separator: "\n").compactMap {
                Int32($0)
            }
        }
    }

    @Test(.enabled(if: isPossible, "needs root and a version 2 memory controller"))
    func `each TD has a group of its own name, its memory is accounted there, and its end proves that it is back`()
        throws
    {
        let service = try Service()
        let host = try PrivateHost(start: false)
        try host.start(in: service.directory + "/tdxd")
        let domain = try host.create("web1")
        #expect(Set(service.processes("tdxd")) == Set([host.pid] + LauncherTests.launchers(of: host)))
        #expect(service.processes("td-web1") == [domain.holderPID])
        let resident = try #require(domain.residentBytes)
        // The holder itself allocates, so it is the one that is charged.
        let created = try host.tdxctl("create", "web2", "--memory", "64M", "--preallocate")
        #expect(created.status == 0)
        let filled = try #require(try host.show("web2").residentBytes)
        #expect(try #require(service.number("td-web2/memory.current")) >= filled && filled > resident)
        for name in ["web1", "web2"] {
            let certificate = try host.stop(name)
            #expect(certificate.complete, "\(certificate)")
            #expect(certificate.proofs.contains { $0.name == "memory_back" && $0.holds })
            #expect(access("\(service.directory)/td-\(name)", F_OK) != 0)
        }
    }

    @Test(.enabled(if: isPossible, "needs root and a version 2 memory controller"))
    func `groups of TDs that are no more are removed by the next tdxd, and those of others are kept`() throws {
        let service = try Service()
        let host = try PrivateHost(start: false)
        try host.start(in: service.directory + "/tdxd")
        _ = try host.create("web1")
        host.kill(.kill)
        #expect(mkdir(service.directory + "/td-old", 0o755) == 0 && mkdir(service.directory + "/other", 0o755) == 0)
        try host.start(in: service.directory + "/tdxd")
        #expect(access(service.directory + "/td-old", F_OK) != 0 && access(service.directory + "/other", F_OK) == 0)
        #expect(service.processes("td-web1").count == 1)
        #expect(try host.stop("web1").complete && host.leavesNothing())
    }

    @Test(.enabled(if: isPossible, "needs root and a version 2 memory controller"), arguments: [true, false])
    func `a TD beyond the service's memory limit is refused before it takes any, and nobody is killed`(
        isDelegated: Bool
    ) throws {
        // With groups of their own the kernel tells what TDs hold; without, their holders do.
        let service = try Service("limit", isDelegated: isDelegated)
        try Service.write("\(256 << 20)", to: service.directory + "/memory.max")
        let host = try PrivateHost(settings: "[memory]\nreserve = 0", start: false)
        try host.start(in: service.directory + "/tdxd")
        // The guest's memory alone would fit; it does not beside what a conversion may double and tables take.
        let refused = refusal { _ = try host.create("large", mebibytes: 224) }
        guard case .insufficientMemory(let needed, let available, let limit)? = refused else {
            Issue.record("224 MiB were not refused: \(String(describing: refused))")
            return
        }
        #expect(needed == 288 << 20 + 49 * 57_344)
        #expect(available <= 256 << 20)
        #expect(limit.contains("memory limit of cgroup \(service.directory)"), "\(limit)")
        #expect(try host.list().isEmpty)
        // One that is let in can have all that it was let in for: its memory, and the other side of it, too.
        let created = try host.tdxctl("create", "small", "--memory", "96M", "--preallocate")
        #expect(created.status == 0, "\(created)")
        for side in [MemorySide.shared, .private] {
            #expect(try host.convert("small", gpa: 0, bytes: 96 << 20, to: side).changedBytes == 96 << 20)
        }
        // What is promised to it is not there for another one.
        #expect(refusal { _ = try host.create("another", mebibytes: 96) }.map { "\($0)" }?.contains("promised") == true)
        #expect(try host.stop("small").complete && host.leavesNothing())
        let events = try TextFile.read(service.directory + "/memory.events")
        #expect(events.contains("oom_kill 0"), "\(events)")
    }

    /// Bytes of the group's guest_memfds by node, which count as unevictable.
    private static func unevictable(_ service: Service, _ group: String) -> [Int: UInt64] {
        let text = (try? TextFile.read("\(service.directory)/\(group)/memory.numa_stat")) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("unevictable ") } ?? ""
        var bytes: [Int: UInt64] = [:]
        for field in line.split(separator: " ").dropFirst() {
            let parts = field.dropFirst().split(separator: "=")
            if parts.count == 2, let node = Int(parts[0]), let count = UInt64(parts[1]) { bytes[node] = count }
        }
        return bytes
    }

    @Test(
        .enabled(if: isPossible, "needs root and a version 2 memory controller"),
        .enabled(if: NUMATests.nodes.count > 1, "the machine has one NUMA node"),
        .enabled(if: Programs.hasKVM, "there is no /dev/kvm"))
    func `private memory that no host can map comes from the nodes asked for, as the kernel accounts it`() throws {
        let service = try Service("numa")
        let host = try PrivateHost(
            backend: "software_protected", settings: "[deadlines]\nholder_start = 2min\nholder_reply = 2min",
            start: false)
        try host.start(in: service.directory + "/tdxd")
        for (name, numa) in [("first", "bind:0"), ("second", "bind:1"), ("both", "interleave:0-1")] {
            let created = try host.tdxctl(
                "create", name, "--memory", "16M", "--numa", numa, "--preallocate", "--json=short")
            // Kernels of machines with several nodes need not have such VMs.
            guard created.status == 0 else {
                #expect(created.errors.contains("software_protected"), "\(created)")
                return
            }
            let placement = try JSONValue(created)["numa"]
            #expect(placement["private_applied"] == .bool(true) && placement["reason"] == .null, "\(created)")
            let bytes = Self.unevictable(service, "td-" + name)
            print("\(numa): \(bytes)")
            let (first, second) = (bytes[0] ?? 0, bytes[1] ?? 0)
            // A group's figures lag behind by a batch of pages a CPU.
            #expect(first + second >= 14 << 20)
            switch name {
            case "first": #expect(second == 0)
            case "second": #expect(first == 0)
            // Turn by turn, whichever is first.
            default: #expect(min(first, second) > (16 << 20) / 5 * 2)
            }
            #expect(try host.stop(name).complete)
        }
    }
}
