import ControlInterface
import LinuxSystem
import MemoryUnits
import ServiceSupport
import SystemPackage
import Testing

@testable import KVM
@testable import TDHolder

@Suite struct `The report on a host` {
    /// A host as an ordinary 6.18 kernel without TDX shows itself.
    static func readings() -> HostReadings {
        HostReadings(
            kvm: .value(
                KVMFacts(
                    apiVersion: Finding(12, "KVM_GET_API_VERSION = 12"), vmTypes: Finding(1, "KVM_CAP_VM_TYPES = 0x1"),
                    guestMemory: Finding(true, "KVM_CAP_GUEST_MEMFD = 1"), memorySlots: Finding(32764, "x"),
                    maximumVCPUs: Finding(1024, "x"), memoryFaultInformation: Finding(true, "x"),
                    hypercallExits: Finding(true, "x"), preFault: Finding(false, "KVM_CAP_PRE_FAULT_MEMORY = 0"),
                    types: [
                        VMTypeFacts(
                            type: .default, guestMemoryFlags: Finding([.mmap, .initShared], "flags = 0x3"),
                            privateMemory: Finding(false, "attributes = 0x0"), maximumVCPUs: Finding(1024, "x"))
                    ], terminate: Finding(.notApplicable, "no type 5"), tdxCapabilities: Finding(nil, "no type 5"))),
            platform: PlatformFacts(
                tdxHostPlatform: Finding(false, "no flag"), tdxModuleParameter: Finding(nil, "open: ENOENT"),
                partialWriteErratum: Finding(false, "no bug"), seamReturnErratum: Finding(false, "no bug"),
                keyIDs: Finding(0, "no tdx in misc.capacity"), moduleVersion: Finding(nil, "open: ENOENT"),
                cachestat: Finding(true, "one page seen")),
            processor: .value(ProcessorInformation(parsing: "processor : 0\nvendor_id : GenuineIntel\n")),
            memory: .value(
                MemoryInformation(parsing: "MemTotal: 4194304 kB\nMemFree: 1 kB\nMemAvailable: 2097152 kB\n")!),
            fence: .version(7))
    }

    static func row(_ name: String, _ readings: HostReadings, _ choice: BackendChoice = .auto) -> HostCheck? {
        HostReportBuilder(readings: readings, choice: choice).report().checks.first { $0.name == name }
    }

    static var withoutKVM: HostReadings {
        var bare = readings()
        bare.kvm = .refused("open: ENOENT: /dev/kvm")
        return bare
    }

    @Test func `Every host gets the same rows`() {
        let names = HostReportBuilder(readings: Self.readings(), choice: .auto).report().checks.map(\.name)
        var bare = Self.withoutKVM
        bare.processor = .refused("x")
        bare.memory = .refused("x")
        #expect(HostReportBuilder(readings: bare, choice: .auto).report().checks.map(\.name) == names)
        #expect(Set(names).count == names.count)
        #expect(names.count == 17)
    }

    @Test func `Every row says what was read, and a failure how to mend it`() {
        var bare = Self.withoutKVM
        bare.platform.cachestat = Finding(false, "cachestat: ENOSYS")
        for check in HostReportBuilder(readings: bare, choice: .auto).report().checks {
            #expect(!check.evidence.isEmpty, "\(check.name)")
            if check.result == .fail { #expect(check.hint != nil, "\(check.name)") }
            if check.result == .pass { #expect(check.hint == nil, "\(check.name)") }
        }
    }

    @Test func `A host without kvm is no failure and gets memfd`() {
        let report = HostReportBuilder(readings: Self.withoutKVM, choice: .auto).report()
        #expect(report.backend == .memfd && report.emulated)
        #expect(!report.checks.contains { $0.result == .fail })
    }

    @Test func `A kernel without cachestat fails`() {
        var readings = Self.readings()
        #expect(Self.row("linux/cachestat", readings)?.result == .pass)
        readings.platform.cachestat = Finding(false, "cachestat: ENOSYS")
        #expect(Self.row("linux/cachestat", readings)?.result == .fail)
    }

    @Test func `A kernel without Landlock is told, and is no failure`() {
        var readings = Self.readings()
        #expect(Self.row("linux/landlock", readings)?.result == .pass)
        #expect(Self.row("linux/landlock", readings)?.evidence.contains("version 7") == true)
        readings.fence = .absent(LinuxError("landlock_create_ruleset", Errno(rawValue: 38)))
        #expect(Self.row("linux/landlock", readings)?.result == .skip)
        #expect(Self.row("linux/landlock", readings)?.evidence.contains("ENOSYS") == true)
    }

    @Test func `Too little memory fails`() {
        var readings = Self.readings()
        readings.memory = .value(
            MemoryInformation(parsing: "MemTotal: 4194304 kB\nMemFree: 1 kB\nMemAvailable: 4096 kB\n")!)
        #expect(Self.row("linux/memory", readings)?.result == .fail)
    }

    @Test func `An erratum passes only where the CPU is known not to have it`() {
        var readings = Self.readings()
        #expect(Self.row("tdx/errata/tdx_pw_mce", readings)?.result == .pass)
        readings.platform.partialWriteErratum = Finding(true, "the bug")
        #expect(Self.row("tdx/errata/tdx_pw_mce", readings)?.result == .skip)
        readings.platform.partialWriteErratum = Finding(nil, "unread")
        #expect(Self.row("tdx/errata/tdx_pw_mce", readings)?.result == .skip)
    }

    @Test func `A backend that was asked for and is missing fails`() {
        let row = Self.row("backend", Self.readings(), .fixed(.tdx))
        #expect(row?.result == .fail)
        #expect(row?.evidence.contains("type 5") == true)
    }

    @Test func `TERMINATE_VM passes only where it was found`() {
        var readings = Self.readings()
        #expect(Self.row("kvm/terminate_vm", readings)?.result == .skip)
        guard case .value(var kvm) = readings.kvm else { return }
        kvm.terminate = Finding(.supported, "bit 0")
        readings.kvm = .value(kvm)
        #expect(Self.row("kvm/terminate_vm", readings)?.result == .pass)
    }
}
