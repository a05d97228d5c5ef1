import ControlInterface
import Glibc
import LinuxSystem
import Testing

/// What tdxd says where the TDX module refuses what Linux asks of it. Each fault takes a machine of its own: scripts/test-tdx
/// lets the module's process plan it, and runs the suite of its name.
enum TDXFaultTests {
    /// The module keeps a page that the kernel wants back, once: the kernel stops the VM and loses the page.
    @Suite(
        .serialized, .kernelComplainsOnly(of: "SEAMCALL", "WARNING:", "cut here", "Call Trace"),
        .enabled(if: SeamLab.fault == "page-metadata", "scripts/test-tdx plans the fault"))
    struct KeptPageTests {
        @Test func `a page that the module keeps makes the end no proven one`() throws {
            let host = try PrivateHost(backend: "tdx")
            let created = try host.tdxctl("create", "web1", "--memory", "16M", "--prefault", "--json=short")
            #expect(created.status == 0, "\(created)")
            let certificate = try host.stop("web1")
            print(certificate)
            print(host.log)
            #expect(!certificate.complete, "the module still has a page: \(certificate)")
        }
    }

    /// No random numbers, twice: Linux asks again.
    @Suite(
        .serialized, .kernelStaysCalm,
        .enabled(if: SeamLab.fault == "entropy", "scripts/test-tdx plans the fault"))
    struct EntropyTests {
        @Test func `a TD is made as if nothing had been`() throws {
            let host = try PrivateHost(backend: "tdx")
            _ = try host.create("web1", mebibytes: 8)
            let certificate = try host.stop("web1")
            #expect(certificate.complete, "\(certificate)")
        }
    }
}
