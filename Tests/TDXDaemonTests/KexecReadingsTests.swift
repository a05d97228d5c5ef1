import Glibc
import LinuxSystem
import Testing

@testable import TDXDaemon

@Suite struct KexecReadingsTests {
    @Test func `what a host shows is read, and what it does not show is not known`() throws {
        let tree = try TemporaryDirectory()
        #expect(KexecReadings.read(root: tree.path) == KexecReadings())
        try write(tree, "sys/kernel/kexec_loaded", "1\n")
        try write(tree, "sys/kernel/kexec_crash_loaded", "0\n")
        try write(tree, "sys/kernel/kexec_crash_size", "268435456\n")
        try write(tree, "proc/cpuinfo", "processor\t: 0\nflags\t: fpu\nbugs\t: spectre_v1 tdx_pw_mce\n")
        try write(tree, "proc/sys/kernel/osrelease", "6.18.2-amd64\n")
        try write(tree, "sys/module/kvm_intel/parameters/tdx", "Y\n")
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

    @Test func `this host shows whether an image is loaded`() throws {
        // Only kernels with kexec have the file.
        guard (try? TextFile.read("/sys/kernel/kexec_loaded")) != nil else { return }
        #expect(KexecReadings.read().isImageLoaded != nil)
    }

    private func write(_ tree: TemporaryDirectory, _ name: String, _ text: String) throws {
        var directory = tree.path
        for component in name.split(separator: "/").dropLast() {
            directory += "/\(component)"
            mkdir(directory, 0o755)
        }
        let file = try #require(fopen("\(tree.path)/\(name)", "w"))
        fputs(text, file)
        fclose(file)
    }
}
