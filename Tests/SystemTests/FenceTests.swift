import ControlInterface
import Glibc
import LinuxSystem
import MemoryUnits
import ServiceSupport
import Testing

/// tdxd and its holders stay within their own files, also when paths lead elsewhere.
@Suite(.serialized) struct FenceTests {
    static let hasLandlock: Bool = if case .version = FileSystemFence.Support.ofKernel { true } else { false }

    @Test func `whether the file system is fenced off is said in the log, by both`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        let line = Self.hasLandlock ? "the file system is fenced off" : "the file system is not fenced off"
        #expect(host.log.contains("tdxd: \(line)") && host.log.contains("tdx-holder: \(line)"), "\(host.log)")
        let report = try JSONValue(host.tdxctl("ok", "--json=short"))
        let row = report["checks"].elements.first { $0["name"] == .text("linux/landlock") }
        #expect(row?["result"] == .text(Self.hasLandlock ? "pass" : "skip"))
    }

    @Test(.enabled(if: hasLandlock, "this kernel has no Landlock"))
    func `a link that leads out of the state directory is not written through`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        let outside = host.directory + "/outside"
        #expect(mkdir(outside, 0o777) == 0)
        let place = host.state + "/certificates"
        #expect(rename(place, place + ".away") == 0 && symlink(outside, place) == 0)
        let certificate = try host.stop("web1")
        #expect(!certificate.complete && certificate.failure?.contains("could not be written") == true)
        #expect(try TextFile.list(outside).isEmpty)
        #expect(unlink(place) == 0 && rename(place + ".away", place) == 0)
        #expect(eventually(within: 60) { host.certificateFiles.count == 1 && host.leavesNothing() })
    }

    @Test(.enabled(if: hasLandlock, "this kernel has no Landlock"))
    func `from inside, a holder of the memory that is outside is seen, and named in the proof`() throws {
        let host = try PrivateHost(settings: "[deadlines]\nprove = 200ms")
        _ = try host.create("web1")
        // A duplicate in this process, which no tdxd has started.
        let name = try #require(
            try TextFile.list("/proc/\(host.pid)/fd").first {
                (try? TextFile.linkTarget("/proc/\(host.pid)/fd/\($0)"))?.contains("memfd") == true
            })
        let held = open("/proc/\(host.pid)/fd/\(name)", O_RDWR | O_CLOEXEC)
        try #require(held >= 0)
        let certificate = try host.stop("web1")
        close(held)
        let proof = try #require(certificate.proofs.first { $0.name == "no_other_holder" })
        #expect(!proof.holds && proof.evidence.contains("pid \(getpid())"), "\(proof)")
        #expect(eventually(within: 60) { host.leavesNothing() })
    }

    @Test func `firmware is taken from where it may lie alone`() throws {
        let host = try PrivateHost(start: false)
        let inside = host.directory + "/firmware"
        #expect(mkdir(inside, 0o755) == 0)
        for path in [inside + "/a.fd", host.directory + "/b.fd"] {
            let file = try OwnedDescriptor.create(path: path, mode: 0o644)
            try [UInt8](repeating: 1, count: 4096).withUnsafeBytes { try file.write($0, at: .zero) }
        }
        #expect(symlink(host.directory + "/b.fd", inside + "/link.fd") == 0)
        try host.configure(settings: "[service]\nfirmware_directories = /usr/share:\(inside)")
        try host.start()
        func reason(_ path: String) -> String {
            guard case .firmwareRejected(_, let reason)? = refusal({ _ = try host.create("web1", firmware: path) })
            else {
                Issue.record("\(path) was taken")
                return ""
            }
            return reason
        }
        // Read, and no firmware.
        #expect(!reason(inside + "/a.fd").contains("firmware_directories"))
        #expect(reason(host.directory + "/b.fd").contains("it lies in none of firmware_directories (/usr/share, "))
        #expect(reason(inside + "/link.fd").contains("ELOOP"))
        #expect(try host.list().isEmpty && host.leavesNothing())
        // A reload cannot open the fence.
        try host.configure(settings: "[service]\nfirmware_directories = any")
        host.signal(.hangUp)
        #expect(eventually { host.log.contains("read the configuration again") })
        if Self.hasLandlock { #expect(reason(host.directory + "/b.fd").contains("firmware_directories")) }
    }
}
