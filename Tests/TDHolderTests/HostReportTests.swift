import ControlInterface
import KVM
import LinuxSystem
import MemoryUnits
import Testing

@testable import TDHolder

@Suite struct `The report on a host` {
    static func readings() -> HostReadings {
        HostReadings(
            kvm: .value(
                HostReadings.KVM(
                    apiVersion: 12, vmTypes: 1, guestMemory: 1, guestMemoryFlags: [.mmap, .initShared],
                    attributes: [.default: 0], preFault: 0, terminate: .noTDX)),
            processor: .value(
                ProcessorInformation(
                    parsing: "processor : 0\nvendor_id : GenuineIntel\nflags : vmx\nbugs : spectre_v1\n")),
            moduleParameter: .refused("open: ENOENT"), capacities: .value([]),
            cachestat: .value((expected: 8192, counted: 8192)),
            memory: .value(
                MemoryInformation(parsing: "MemTotal: 4194304 kB\nMemFree: 1 kB\nMemAvailable: 2097152 kB\n")!))
    }

    static func row(_ name: String, _ readings: HostReadings, _ choice: BackendChoice = .auto) -> HostCheck? {
        HostReportBuilder(readings: readings, choice: choice).report().checks.first { $0.name == name }
    }

    @Test func `Every host gets the same rows`() {
        let names = HostReportBuilder(readings: Self.readings(), choice: .auto).report().checks.map(\.name)
        var bare = Self.readings()
        bare.kvm = .refused("open: ENOENT: /dev/kvm")
        bare.processor = .refused("x")
        bare.memory = .refused("x")
        bare.cachestat = .refused("x")
        bare.capacities = .refused("x")
        #expect(HostReportBuilder(readings: bare, choice: .auto).report().checks.map(\.name) == names)
        #expect(Set(names).count == names.count)
        #expect(names.count == 16)
    }

    @Test func `Every row that does not pass says what was read, and a failure how to mend it`() {
        var bare = Self.readings()
        bare.kvm = .refused("open: ENOENT: /dev/kvm")
        bare.cachestat = .refused("cachestat: ENOSYS")
        for check in HostReportBuilder(readings: bare, choice: .auto).report().checks {
            #expect(!check.evidence.isEmpty, "\(check.name)")
            if check.result == .fail { #expect(check.hint != nil, "\(check.name)") }
            if check.result == .pass { #expect(check.hint == nil, "\(check.name)") }
        }
    }

    @Test func `A host without kvm is no failure and gets memfd`() {
        var bare = Self.readings()
        bare.kvm = .refused("open: ENOENT: /dev/kvm")
        let report = HostReportBuilder(readings: bare, choice: .auto).report()
        #expect(report.backend == .memfd && report.emulated)
        #expect(!report.checks.contains { $0.result == .fail })
    }

    @Test func `A foreign API version fails and keeps KVM from being used`() {
        var odd = Self.readings()
        odd.kvm = .value(
            HostReadings.KVM(
                apiVersion: 13, vmTypes: 1, guestMemory: 1, guestMemoryFlags: [.mmap, .initShared], attributes: [:],
                preFault: 0, terminate: .noTDX))
        #expect(Self.row("kvm/api_version", odd)?.result == .fail)
        #expect(HostReportBuilder(readings: odd, choice: .auto).report().backend == .memfd)
    }

    @Test func `A cachestat that miscounts fails`() {
        var readings = Self.readings()
        readings.cachestat = .value((expected: 8192, counted: 4096))
        #expect(Self.row("linux/cachestat", readings)?.result == .fail)
    }

    @Test func `The erratum is reported where the CPU has it`() {
        var readings = Self.readings()
        #expect(Self.row("tdx/errata/tdx_pw_mce", readings)?.result == .pass)
        readings.processor = .value(ProcessorInformation(parsing: "processor : 0\nbugs : tdx_pw_mce\n"))
        #expect(Self.row("tdx/errata/tdx_pw_mce", readings)?.result == .skip)
    }

    @Test func `A backend that was asked for and is missing fails`() {
        let row = Self.row("backend", Self.readings(), .fixed(.tdx))
        #expect(row?.result == .fail)
        #expect(row?.evidence.contains("type 5") == true)
    }

    @Test func `Key ids are counted from the misc controller`() {
        var readings = Self.readings()
        #expect(Self.row("tdx/key_ids", readings)?.result == .skip)
        readings.capacities = .value([MiscResource(name: "tdx", amount: 63)])
        #expect(Self.row("tdx/key_ids", readings)?.evidence == "misc.capacity: tdx 63")
    }
}
