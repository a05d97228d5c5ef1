import ControlInterface
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
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

    /// A control group's limit. Linux 7.2 takes back a charge that it did not make when KVM_TDX_INIT_VM fails for misc.max
    /// (`__tdx_td_init()`, `tdx_hkid_free()`): it warns, and its counts of key ids are one too low from then on.
    @Suite(
        .serialized, .kernelComplainsOnly(of: "misc_cg_uncharge", "cut here", "Call Trace"),
        .enabled(if: SeamLab.fault == "limit", "scripts/test-tdx runs this on a machine of its own"))
    struct LimitTests {
        @Test func `a limit that is reached is told from the last key id, and the TD that is there goes on`() throws {
            let host = try PrivateHost(backend: "tdx", start: false)
            let group = "/sys/fs/cgroup/limited"
            guard mkdir(group, 0o755) == 0 else { throw LinuxError("mkdir", Errno(rawValue: errno), detail: group) }
            defer { rmdir(group) }
            try SeamLab.write("tdx 1", to: "limited/misc.max")
            try host.start(in: group)
            _ = try host.create("td1", mebibytes: 8)
            let refused = try #require(refusal { _ = try host.create("td2", mebibytes: 8) })
            #expect("\(refused)".contains("EBUSY"), "\(refused)")
            _ = try host.convert("td1", gpa: 0, bytes: 1 << 20, to: .shared)
            let certificate = try host.stop("td1")
            #expect(certificate.backend == .tdx)
            for proof in certificate.proofs where proof.name != "key_id_uncharged" { #expect(proof.holds, "\(proof)") }
            host.kill(.terminate)
        }
    }
}
