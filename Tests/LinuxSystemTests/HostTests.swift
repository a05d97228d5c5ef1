import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

struct HostTests {
    @Test(arguments: [
        (0, "1970-01-01T00:00:00.000Z"), (951_782_400_000_000_000, "2000-02-29T00:00:00.000Z"),
        (1_709_251_199_999_999_999, "2024-02-29T23:59:59.999Z"),
        (1_709_251_200_000_000_000, "2024-03-01T00:00:00.000Z"),
        (4_107_542_399_123_000_000, "2100-02-28T23:59:59.123Z"), (-1, "1969-12-31T23:59:59.999Z"),
        (-86_400_000_000_000, "1969-12-31T00:00:00.000Z"),
    ])
    func `wall time is rendered as RFC 3339`(nanoseconds: Int64, expected: String) {
        #expect(WallTime(nanoseconds: nanoseconds).rfc3339 == expected)
    }

    @Test func `monotonic time does not run backwards and measures in both directions`() {
        let a = MonotonicInstant.now
        let b = MonotonicInstant.now
        #expect(a <= b)
        #expect(MonotonicInstant(nanoseconds: 2_500_000).milliseconds(since: .init(nanoseconds: 1_000_000)) == 1.5)
        #expect(MonotonicInstant(nanoseconds: 1_000_000).milliseconds(since: .init(nanoseconds: 2_500_000)) == -1.5)
    }

    @Test func `meminfo is read in bytes`() throws {
        let text = """
            MemTotal:       24604748 kB
            MemFree:        22000000 kB
            MemAvailable:   23000000 kB
            Cached:             1000 kB
            Unevictable:          12 kB
            HugePages_Total:       0
            """
        let information = try #require(MemoryInformation(parsing: text))
        #expect(information.total == .kibibytes(24_604_748))
        #expect(information.available == .kibibytes(23_000_000))
        #expect(information.unevictable == .kibibytes(12))
        #expect(information.sharedMemory == .zero)
        #expect(MemoryInformation(parsing: "MemTotal: 5 kB\n") == nil)
        let host = try MemoryInformation.ofHost()
        #expect(host.available <= host.total)
        #expect(host.total > .mebibytes(64))
    }

    @Test func `this process has resident memory and threads`() throws {
        let memory = try ProcessMemory.of()
        #expect(memory.resident > .mebibytes(1))
        #expect(memory.peakResident >= memory.resident)
        #expect(memory.threads >= 1)
        #expect(ProcessMemory(parsing: "Name:\tkthreadd\nThreads:\t1\n") == nil)
    }

    @Test func `control group memberships of both versions are read`() {
        let groups = ControlGroups(parsing: "9:name=systemd:/\n4:memory,misc:/a/b:c\nnonsense\n0::/user.slice\n")
        #expect(
            groups.memberships == [
                .init(hierarchy: 9, controllers: ["name=systemd"], path: "/"),
                .init(hierarchy: 4, controllers: ["memory", "misc"], path: "/a/b:c"),
                .init(hierarchy: 0, controllers: [], path: "/user.slice"),
            ])
        #expect(groups.memory(root: "/nonexistent") == nil)
    }

    @Test func `misc resources are read, malformed lines left out`() {
        #expect(
            MiscResource.parse("tdx 63\nsev_es 99\nbroken\nx -1\n") == [
                MiscResource(name: "tdx", amount: 63), MiscResource(name: "sev_es", amount: 99),
            ])
    }

    @Test func `flags and bugs of the first processor are read and all are counted`() {
        let text = """
            processor\t: 0
            vendor_id\t: GenuineIntel
            model name\t: Some CPU @ 2.0GHz: fast
            flags\t\t: fpu vme tdx_host_platform
            bugs\t\t: spectre_v1 tdx_pw_mce

            processor\t: 1
            vendor_id\t: Other
            flags\t\t: none
            """
        let cpu = ProcessorInformation(parsing: text)
        #expect(cpu.vendor == "GenuineIntel")
        #expect(cpu.model == "Some CPU @ 2.0GHz: fast")
        #expect(cpu.flags == ["fpu", "vme", "tdx_host_platform"])
        #expect(cpu.bugs == ["spectre_v1", "tdx_pw_mce"])
        #expect(cpu.count == 2)
    }

    @Test func `a held descriptor and a mapping are both found, and nothing is found once both are gone`() throws {
        let file = try MemoryFile(name: "held", size: .kibibytes(8))
        let mapping = try file.map(length: .kibibytes(8))
        func mine() throws -> [InodeHolders.Holder] {
            try InodeHolders.find([file.identity]).holders.filter { $0.pid == CurrentProcess.pid }
        }
        let both = try mine()
        #expect(both.contains { if case .descriptor = $0.means { true } else { false } })
        #expect(both.contains { $0.means == .mappings(count: 1) })
        file.close()
        #expect(try mine().map(\.means) == [.mappings(count: 1)])
        mapping.unmap()
        let look = try InodeHolders.find([file.identity])
        #expect(look.holders.isEmpty)
        #expect(look.processesSeen >= 1)
    }

    @Test func `an event is read from a netlink message`() throws {
        let message = Array(
            ("change@/devices/virtual/misc/kvm\0ACTION=change\0DEVPATH=/devices/virtual/misc/kvm\0"
                + "CREATED=42\0COUNT=3\0EVENT=destroy\0PID=1234\0").utf8)
        let event = try #require(KernelEvent(parsing: message))
        #expect(event.action == "change" && event.devicePath == "/devices/virtual/misc/kvm")
        #expect(event.properties["EVENT"] == "destroy" && event.properties["PID"] == "1234")
        #expect(KernelEvent(parsing: Array("libudev\0garbage".utf8)) == nil)
    }

    @Test func `errors name the call, the errno and what was asked`() {
        let error = LinuxError("fallocate(PUNCH_HOLE)", .invalidArgument, detail: "offset 0x3")
        #expect(error.description == "fallocate(PUNCH_HOLE): EINVAL (Invalid argument): offset 0x3")
        #expect(Errno(rawValue: 133).name == "EHWPOISON")
        #expect(Errno(rawValue: 4000).name == "errno 4000")
        #expect(Errno(named: "EOPNOTSUPP") == .notSupportedOnSocket || Errno(named: "EOPNOTSUPP")?.rawValue == 95)
    }
}
