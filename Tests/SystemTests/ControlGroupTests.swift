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

        init() throws {
            try Self.write("+memory", to: ControlGroupTests.root + "/cgroup.subtree_control")
            directory = ControlGroupTests.root + "/tdxd-test-\(getpid()).service"
            for path in [directory, directory + "/tdxd"] {
                guard mkdir(path, 0o755) == 0 else { throw LinuxError("mkdir", .init(rawValue: errno), detail: path) }
            }
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
        #expect(service.processes("tdxd") == [host.pid])
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
}
