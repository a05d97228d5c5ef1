import Glibc
import LinuxSystem
import Testing
import VMMTerms

@testable import TDXControl

@Suite struct `tdxctl run` {
    private func place(_ name: String, _ text: String) throws -> String {
        let path = "/tmp/tdxctl-run-test.\(getpid()).\(name)"
        let file = fopen(path, "w")
        fputs(text, file)
        fclose(file)
        return path
    }

    @Test(arguments: [
        (["run"], "a command is missing"), (["run", "true"], "a command is missing"),
        (["run", "--guest", "penguin", "--", "true"], "is no guest"),
        (["run", "--emulate", "often", "--", "true"], "is not auto, always or never"),
        (["run", "--backing", "paper", "--", "true"], "is not automatic"),
    ])
    func `what is no command line is refused`(arguments: [String], reason: String) {
        let outcome = tdxctl(arguments)
        #expect(outcome.status == ExitStatus.usage.rawValue && outcome.error.contains(reason), "\(outcome)")
    }

    @Test func `a script's bad lines are told by number before anything is started`() throws {
        let path = try place("script", "wait 1\nwalk\naccept 1 1\n")
        defer { unlink(path) }
        let outcome = tdxctl(["run", "--guest", path, "--", "/nonexistent"])
        #expect(outcome.status == ExitStatus.usage.rawValue)
        #expect(outcome.error.contains("\(path): line 2: unknown step “walk”"), "\(outcome.error)")
        #expect(outcome.error.contains("line 3: the address is not a multiple of 4096"))
        #expect(outcome.error.contains("has 2 bad lines"))
    }

    @Test func `what cannot be preloaded is refused with the reason`() throws {
        #expect(tdxctl(["run", "--", "no-such-program"]).error.contains("is no program that can be run"))
        let setuid = tdxctl(["run", "--", "/usr/bin/passwd"])
        #expect(setuid.status == 1 && setuid.error.contains("is a setuid program"), "\(setuid)")
        #expect(setuid.error.contains("docs/seam-lab.md"))
    }

    @Test func `programs are told apart by their first bytes`() {
        #expect(ProgramKind("/bin/sh") == .dynamic)
        #expect(ProgramKind(Array("#! /usr/bin/python3 -u\nx".utf8)) == .script(interpreter: "/usr/bin/python3"))
        #expect(ProgramKind(Array("#!\n".utf8)) == .unknown)
        #expect(ProgramKind([]) == .unknown)
        var elf = [UInt8](repeating: 0, count: 64 + 56)
        elf.replaceSubrange(0..<6, with: [0x7F, 0x45, 0x4C, 0x46, 2, 1])
        elf[18] = 62
        elf[32] = 64
        elf[54] = 56
        elf[56] = 1
        elf[64] = 1
        #expect(ProgramKind(elf) == .fixed)
        elf[64] = 3
        #expect(ProgramKind(elf) == .dynamic)
        // A header table beyond what was read.
        elf[56] = 200
        elf[64] = 1
        #expect(ProgramKind(elf) == .unknown)
        elf[18] = 183
        #expect(ProgramKind(elf) == .otherMachine)
    }

    private var report: EngineReport {
        EngineReport(
            backend: "guest_memfd", pid: 7, program: "qemu", requests: ["KVM_RUN": 12_345, "KVM_TDX_INIT_VM": 1],
            refusals: ["KVM_CREATE_VM: errno 22": 2],
            trustDomains: [
                EngineReport.TrustDomain(
                    generation: 1, vcpus: 2, guestMemoryBytes: 1 << 30, keyId: 33, mrtd: "ab", loadedPages: 1050,
                    measuredPages: 892, privatePages: 0, exits: ["IO": 3, "HYPERCALL MAP_GPA_RANGE": 5000], toShared: 1,
                    toSharedBytes: 4096, toPrivate: 2, toPrivateBytes: 8192, punchedBytes: 4096, seamcalls: [:],
                    destroyed: true, leakedPages: 0, bug: nil, notes: ["a\u{1b}[2J"])
            ],
            guest: EngineReport.Guest(
                name: "boot", state: "finished", steps: 5000, failures: [], lines: [], linesNotKept: 0))
    }

    @Test func `the summary says emulated, what happened and what leaked`() {
        var report = report
        report.leaks = EngineReport.Leaks(trustDomains: 0, keyIds: 0, pages: 0)
        let text = render(report, exit: .exited(status: 0), emulate: .auto, .plain)
        #expect(
            text == """

                VMM           qemu, exited with status 0
                TDX           emulated (backend guest_memfd): nothing was encrypted
                TD 1          2 vCPUs, 1 GiB, key id 33, destroyed
                  MRTD        ab
                  Loaded      1,050 pages, 892 of them measured
                  Exits       HYPERCALL MAP_GPA_RANGE 5,000, IO 3
                  Attributes  1 to shared (4 KiB), 2 to private (8 KiB); 4 KiB punched
                  Note        a\\u{1b}[2J
                Requests      12,345 of 2 kinds; refused: KVM_CREATE_VM: errno 22 × 2
                Guest         boot: finished, 5,000 steps
                Leaked        nothing

                """)
        #expect(RunCommand.status(.exited(status: 0), report) == 0)
        report.leaks?.pages = 1
        #expect(RunCommand.status(.exited(status: 0), report) == 1)
        #expect(render(report, exit: .exited(status: 0), emulate: .auto, .plain).contains("0 TDs, 0 key ids, 1 pages"))
    }

    @Test func `the VMM's own status counts most`() {
        var report = report
        report.guest.failures = ["line 2: 0x1000 has 00, expected 01"]
        #expect(RunCommand.status(.exited(status: 0), report) == 1)
        #expect(RunCommand.status(.exited(status: 3), report) == 3)
        #expect(RunCommand.status(.killed(by: .kill, coreDumped: false), report) == 137)
        #expect(RunCommand.status(.exited(status: 0), nil) == 0)
        let text = render(report, exit: .exited(status: 0), emulate: .auto, .plain)
        #expect(text.contains("1 expectations were not met") && text.contains("line 2: 0x1000 has 00"))
        #expect(text.contains("unknown: the VMM's process did not end by itself"))
    }

    @Test func `settings survive their way through the environment`() throws {
        var settings = VMMSettings()
        settings.emulate = .always
        settings.guest = "/tmp/guest.txt"
        settings.report = "/tmp/report"
        settings.endsWithGuest = true
        settings.isQuiet = true
        let variables = settings.variables
        let read = try VMMSettings { variable in variables.first { $0.0 == variable }?.1 }
        #expect(read == settings)
        #expect(throws: VMMSettingsError.self) { try VMMSettings { $0 == .emulate ? "often" : nil } }
        #expect(throws: VMMSettingsError.self) { try VMMSettings { $0 == .guest ? "penguin" : nil } }
    }
}
