import LinuxSystem
import Testing

@Suite struct KexecReadingsTests {
    @Test func `what a host says is read, and what it does not say is not known`() throws {
        let tree = try TemporaryTree()
        #expect(KexecReadings.read(root: tree.path) == KexecReadings())
        try tree.write("sys/kernel/kexec_loaded", "1\n")
        try tree.write("sys/kernel/kexec_crash_loaded", "0\n")
        try tree.write("sys/kernel/kexec_crash_size", "268435456\n")
        try tree.write("proc/cpuinfo", "processor\t: 0\nflags\t: fpu\nbugs\t: spectre_v1 tdx_pw_mce\n")
        try tree.write("proc/sys/kernel/osrelease", "6.18.2-amd64\n")
        try tree.write("sys/module/kvm_intel/parameters/tdx", "Y\n")
        #expect(
            KexecReadings.read(root: tree.path)
                == KexecReadings(
                    isImageLoaded: true, isCrashKernelLoaded: false, crashBytes: 268_435_456,
                    hasPartialWriteErratum: true, usesTDX: true, kernelRelease: "6.18.2-amd64"))
    }

    @Test func `kernels before 7.2 refuse an image where TDX is on and the CPU has the erratum`() {
        func refuses(_ release: String?, erratum: Bool?, tdx: Bool? = true) -> Bool? {
            KexecReadings(hasPartialWriteErratum: erratum, usesTDX: tdx, kernelRelease: release).kernelRefusesToLoad
        }
        #expect(refuses("6.18.2-amd64", erratum: true) == true)
        #expect(refuses("7.1.9", erratum: true) == true)
        #expect(refuses("7.2-rc1", erratum: true) == false)
        #expect(refuses("10.0.1", erratum: true) == false)
        #expect(refuses("6.18.2", erratum: false) == false)
        #expect(refuses("6.18.2", erratum: true, tdx: false) == false)
        #expect(refuses("6.18.2", erratum: true, tdx: nil) == nil)
        #expect(refuses(nil, erratum: true) == nil)
        #expect(refuses("unnumbered", erratum: true) == nil)
        #expect(refuses("6.18.2", erratum: nil) == nil)
    }

    @Test func `this host says whether an image is loaded`() throws {
        // Only kernels with kexec have the file.
        guard (try? TextFile.read("/sys/kernel/kexec_loaded")) != nil else { return }
        #expect(KexecReadings.read().isImageLoaded != nil)
    }
}
