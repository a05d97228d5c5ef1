import MemoryUnits
import TDXModule
import TDXStatusCodes
import Testing

@Suite struct `The module's start` {
    @Test func `goes in one order only`() throws {
        let host = try Host(bringUp: false)
        #expect(host.call(.mngCreate, rcx: 0) == .sysNotReady)
        #expect(host.call(.sysLpInit) == .sysLPInitNotPending)
        #expect(host.call(.sysInit, rcx: 1) == .operandInvalid.with(.rcx))
        #expect(host.call(.sysInit) == .success)
        #expect(host.call(.sysInit) == .sysInitNotPending)
        #expect(host.call(.sysInfo, rcx: 0x1000, rdx: 1024, r8: 0x2000, r9: 32) == .sysLPInitNotDone)
        #expect(host.call(.sysLpInit) == .success)
        #expect(host.call(.sysLpInit) == .sysLPInitDone)
        #expect(host.call(.sysConfig, rcx: 0x2000, rdx: 1, r8: 32) == .sysConfigNotPending)
        host.processor = LogicalProcessorID(1)
        #expect(host.call(.sysLpInit) == .success)
        #expect(host.call(.sysKeyConfig) == .sysKeyConfigNotPending)
        #expect(host.call(.sysConfig, rcx: 0x2001, rdx: 1, r8: 32) == .operandInvalid.with(.rcx))
        #expect(host.call(.sysConfig, rcx: 0x2000, rdx: 0, r8: 32) == .operandInvalid.with(.rdx))
        #expect(host.call(.sysConfig, rcx: 0x2000, rdx: 65, r8: 32) == .operandInvalid.with(.rdx))
        #expect(host.call(.sysConfig, rcx: 0x2000, rdx: 1, r8: 31) == .operandInvalid.with(.r8))
        #expect(host.call(.sysShutdown) == .sysNotReady)
    }

    @Test func `ends with SYS.SHUTDOWN, for good`() throws {
        let host = try Host()
        #expect(host.call(.sysShutdown, rcx: 1) == .operandInvalid.with(.rcx))
        #expect(host.call(.sysShutdown) == .success)
        #expect(host.call(.mngCreate) == .sysShutdown)
        #expect(host.call(.sysInit) == .sysShutdown)
    }

    /// The numbers of the reference's list that docs/tdx-module.md gives a reason for, and some that are nobody's.
    static let unknownLeaves: [UInt64] =
        [42, 48, 49, 92, 93, 94, 95, 96, 97] + Array(64...68) + Array(70...75) + Array(80...87)
        + [46, 47, 50, 51, 54, 57, 60, 128, 166, 0xFFFF]

    @Test(arguments: ModuleVersion.allCases)
    func `refuses leaves that it does not model like unknown ones, in every state`(version: ModuleVersion) throws {
        let platform = PlatformDescription(memory: .gibibytes(2), version: version)
        func status(_ host: Host, _ number: UInt64) -> TDXStatus {
            var registers = Registers(.sysInit)
            registers.rax = number
            (registers.rcx, registers.rdx) = (5, 7)
            let status = host.module.seamcall(&registers, on: host.processor)
            #expect((registers.rcx, registers.rdx) == (5, 7), "leaf \(number)")
            return status
        }
        let early = try Host(platform, bringUp: false)
        let host = try Host(platform)
        for number in Self.unknownLeaves {
            #expect(SeamcallLeaf(rawValue: UInt16(number)) == nil)
            #expect(status(early, number) == .sysNotReady, "leaf \(number)")
            #expect(status(host, number) == .operandInvalid.with(.rax), "leaf \(number)")
        }
        #expect(host.call(.sysShutdown) == .success)
        for number in Self.unknownLeaves {
            #expect(status(host, number) == .sysShutdown, "leaf \(number)")
        }
        // Every other number of the table is modelled.
        #expect(SeamcallLeaf.allCases.count { $0.rawValue < 46 } + Self.unknownLeaves.filter { $0 < 46 }.count == 46)
    }

    /// TDMR_INFO as words: base, size, PAMT 1G, 2M, 4K areas, then reserved areas; GiB 4 … 6 are for TDMRs, GiB 6 for PAMTs.
    static let gib: UInt64 = 1 << 30
    static func info(_ change: (inout [UInt64]) -> Void = { _ in }) -> [UInt64] {
        var words: [UInt64] = [
            4 * gib, gib, 6 * gib, 4096, 6 * gib + 4096, 8192, 6 * gib + 12288, 4 << 20, 0, 0, 0, 0,
        ]
        change(&words)
        return words
    }

    @Test(
        arguments: [
            ([info { $0[0] += 4096 }], 0xC000_0A00_0000_0000), ([info { $0[1] = 0 }], 0xC000_0A00_0000_0000),
            ([info(), info()], 0xC000_0A01_0000_0001), ([info { $0[3] = 0 }], 0xC000_0A10_0000_0200),
            ([info { $0[4] += 1 }], 0xC000_0A10_0000_0100), ([info { $0[7] -= 4096 }], 0xC000_0A10_0000_0000),
            ([info { $0[6] = 4 * gib }], 0xC000_0A12_0000_0000),
            ([info { $0[4] = 6 * gib }], 0xC000_0A12_0000_0100), ([info { $0[2] = 9 * gib }], 0xC000_0A11_0000_0200),
            ([info { ($0[8], $0[9]) = (1, 4096) }], 0xC000_0A20_0000_0000),
            // Order goes before alignment, of TDMRs and of reserved areas; an empty area before another is named itself.
            ([info(), info { $0[0] -= 4096 }], 0xC000_0A01_0000_0001),
            ([info { ($0[8], $0[9], $0[10], $0[11]) = (8192, 4096, 1, 4096) }], 0xC000_0A21_0000_0100),
            ([info { ($0[8], $0[9], $0[10], $0[11]) = (0, 0, 8192, 4096) }], 0xC000_0A21_0000_0000),
            // Key-id bits, in a TDMR and in a PAMT area.
            ([info { $0[0] = 1 << 46 }], 0xC000_0A00_0000_0000), ([info { $0[2] = 1 << 46 }], 0xC000_0A10_0000_0200),
            // The first TDMR is checked to its end before the second is looked at.
            ([info { $0[7] -= 4096 }, info { $0[1] = 0 }], 0xC000_0A10_0000_0000),
            // PAMT areas against each other, then against TDMRs; 4 KiB first.
            ([info { ($0[4], $0[6]) = (6 * gib, 6 * gib) }], 0xC000_0A12_0000_0000),
            ([info { ($0[8], $0[9], $0[10], $0[11]) = (8192, 4096, 4096, 4096) }], 0xC000_0A21_0000_0100),
            ([info { $0[0] = 7 * gib }], 0xC000_0A02_0000_0000),
            ([info { ($0[6], $0[8], $0[9]) = (4 * gib, 0, 4 << 20) }], 0),
        ] as [([[UInt64]], UInt64)])
    func `refuses bad TDMRs by number and reason`(infos: [[UInt64]], status: UInt64) throws {
        let host = try Host(PlatformDescription(memory: .gibibytes(2)), bringUp: false)
        func put(_ value: UInt64, _ address: UInt64) {
            withUnsafeBytes(of: value) { host.memory.write(HostPhysicalAddress(address), key: KeyID(0), from: $0) }
        }
        try host.must(.sysInit)
        for processor: UInt32 in 0...1 {
            host.processor = LogicalProcessorID(processor)
            try host.must(.sysLpInit)
        }
        for (index, words) in infos.enumerated() {
            put(0x4000 + 512 * UInt64(index), 0x2000 + 8 * UInt64(index))
            for (place, word) in words.enumerated() { put(word, 0x4000 + 512 * UInt64(index) + 8 * UInt64(place)) }
        }
        #expect(host.call(.sysConfig, rcx: 0x2000, rdx: UInt64(infos.count), r8: 32).rawValue == status)
    }

    @Test func `makes reserved areas unusable`() throws {
        // One region alone holds its own PAMT at its end.
        let range = HostPhysicalRange(start: HostPhysicalAddress(4 << 30), size: .gibibytes(2))
        let host = try Host(PlatformDescription(convertibleMemory: [range]))
        let usable = host.module.usableMemory
        #expect(usable.count == 1 && usable[0].end < range.end)
        let reserved = usable[0].end.rawValue
        #expect(host.metadata(reserved).type == .reserved)
        #expect(host.metadata(reserved - 4096).type == .free)
        #expect(host.call(.mngCreate, rcx: reserved, rdx: 33) == .pageMetadataIncorrect.with(.rcx))
    }

    @Test func `PAMT areas have the documented size`() {
        let plan = PlatformDescription(memory: .gibibytes(64))
        // 256 MiB + 512 KiB + 4 KiB, and the metadata region holds them.
        #expect(plan.convertibleMemory[1].size.rawValue >= 256 << 20 + 512 << 10 + 4096)
    }

    @Test(
        arguments: [
            (0x0000_0000_0100_0020, 0xC000_0100_0000_0000), (0x0000_0001_0000_0020, 0xC000_0100_0000_0000),
            (0x0000_0000_0001_0009, 0xC000_0100_0000_0000), (0x0000_0000_0000_0077, 0xC000_0100_0000_0000),
            (0x0000_0000_0000_002A, 0xC000_0100_0000_0000),
        ] as [(UInt64, UInt64)])
    func `refuses calls with a bad RAX`(rax: UInt64, status: UInt64) throws {
        let host = try Host()
        var registers = Registers(rax: rax, rcx: 1, rdx: 2, r8: 3)
        #expect(host.module.seamcall(&registers, on: LogicalProcessorID(0)).rawValue == status)
        #expect(registers == Registers(rax: status, rcx: 1, rdx: 2, r8: 3))
    }

    @Test func `tells its fields and its memory`() throws {
        let host = try Host()
        try host.must(.sysRd, rdx: 0x9100_0001_0000_0008)
        #expect(host.registers.r8 == 64 && host.registers.rdx == 0x9100_0001_0000_0009)
        #expect(host.call(.sysRd, rdx: 0x7F) == .metadataFieldIDIncorrect)
        #expect(host.registers.rdx == .max && host.registers.r8 == 0)
        try host.must(.sysInfo, rcx: 0x1000, rdx: 1024, r8: 0x2000, r9: 32)
        #expect(host.registers.rdx == 1024 && host.registers.r9 == 32)
        var regions = [UInt64](repeating: 0, count: 4)
        regions.withUnsafeMutableBytes { host.memory.read(HostPhysicalAddress(0x2000), key: KeyID(0), into: $0) }
        #expect(regions == [4 << 30, 2 << 30, 6 << 30, 1 << 30])
    }

    @Test func `64 TiB cost less than 1 MiB until they are used`() throws {
        let platform = PlatformDescription(
            memory: .gibibytes(64 << 10), mktmeKeys: 7, tdxKeys: 8, keyIDBits: 5)
        let module = try TDXModule(platform: platform, memory: ContentlessMemory())
        #expect(module.platform.convertibleMemory[0].size == .gibibytes(64 << 10))
        #expect(module.residentMetadata < .mebibytes(1))
    }

    @Test func `initialising TDMRs costs nothing either`() throws {
        let host = try Host(PlatformDescription(memory: .gibibytes(128)))
        #expect(host.module.residentMetadata < .kibibytes(64))
        _ = try host.makeRunnable()
        #expect(host.module.residentMetadata < .kibibytes(128))
    }

    @Test func `a description that makes no machine is refused by field`() {
        func refusal(_ change: (inout PlatformDescription) -> Void) -> PlatformError? {
            var platform = PlatformDescription()
            change(&platform)
            do { try platform.validate() } catch { return error }
            return nil
        }
        #expect(refusal { _ in } == nil)
        #expect(refusal { $0.packages = 9 } == .outOfRange(field: "packages", value: 9, limit: "1 … 8"))
        #expect(refusal { $0.tdxKeys = 0 } == .outOfRange(field: "tdxKeys", value: 0, limit: "at least 1"))
        #expect(refusal { $0.convertibleMemory.reverse() } == .badConvertibleMemory(index: 1))
        #expect(refusal { $0.keyIDBits = 5 } != nil)
    }

    @Test(
        arguments: [
            (0, 0x02, 0x40), (8, 0x01, 0x41), (16, 0, 0x44), (18, 1, 0x47), (24, 0, 0x43), (32, 0x08, 0x42),
            (40, 1, 0x46),
            (20, 1, 0x02), (42, 1, 0x02), (232, 1, 0x02), (1023, 1, 0x02), (256 + 12 * 16, 1, 0x02), (256, 0xFF, 0),
        ] as [(Int, UInt8, UInt64)])
    func `parameters of a trust domain are refused by field`(offset: Int, value: UInt8, operand: UInt64) throws {
        let host = try Host()
        if offset == 256 {
            // A bit of CPUID leaf 1 that cannot be configured: bit 31 of EAX.
            #expect(throws: CallFailed.self) { _ = try host.makeTD { $0[259] = 0x80 } }
            #expect(host.registers.rax == 0xC000_0100_0000_0045 && host.registers.rcx == 0xFFFF_FFFF_0000_0001)
            return
        }
        #expect(throws: CallFailed.self) {
            _ = try host.makeTD {
                $0[offset] = value
                if offset == 16 { $0[17] = 0 }
            }
        }
        #expect(host.registers.rax == 0xC000_0100_0000_0000 + operand)
    }
}
