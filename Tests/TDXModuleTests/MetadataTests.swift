import MemoryUnits
import TDXModule
import TDXStatusCodes
import Testing

@testable import struct TDXModule.CPUIDConfiguration

/// Fields, their order and their masks. Values are those of the published lookup tables of release 1.5.01.
@Suite struct `Metadata fields` {
    /// Every element of a context by "next" identifiers, from the null identifier on.
    private func elements(_ host: Host, _ leaf: SeamcallLeaf, rcx: UInt64, version: UInt8) throws -> [UInt64] {
        #expect(host.call(leaf, version: version, rcx: rcx, rdx: .max) == .metadataFirstFieldIDInContext)
        var result: [UInt64] = []
        while host.registers.rdx != .max {
            result.append(host.registers.rdx)
            let status = host.call(leaf, version: version, rcx: rcx, rdx: host.registers.rdx)
            // CPUID leaves that raise #VE are listed, but have no value.
            if status == .metadataFieldNotReadable { host.registers.rdx = afterFaulting(result[result.count - 1]) }
            guard status.isSuccess || status == .metadataFieldNotReadable, result.count < 5000 else { throw status }
        }
        return result
    }

    /// The element after one that cannot be read, as the order of the published CPUID table has it.
    private func afterFaulting(_ id: UInt64) -> UInt64 {
        let leaf = UInt32(id >> 9 & 0x7F) | UInt32(id >> 16 & 1) << 31
        if id & 1 == 0 { return id | 1 }
        return switch leaf {
        case 6: CPUIDConfiguration.field(7, 2, ofECXAndEDX: false)
        case 0x1F:
            id >> 1 & 0x7F == 5
                ? CPUIDConfiguration.field(0x20, .max, ofECXAndEDX: false) : (id & ~1) + 2
        default: CPUIDConfiguration.field(0x8000_0007, .max, ofECXAndEDX: false)
        }
    }

    @Test func `of the module are 354 elements in the published order`() throws {
        let host = try Host()
        let all = try elements(host, .sysRd, rcx: 0, version: 0)
        #expect(all.count == 354 && Set(all).count == 354)
        #expect(Array(all[0..<10]) == [0x2_0000_0000] + (1...8).map { 0x2_0000_0000 + $0 } + [0x0800_0002_0000_0000])
        let classes = all.map { $0 >> 56 & 0x3F }
        var order: [UInt64] = []
        for value in classes where order.last != value { order.append(value) }
        // Platform, version, handoff, features, CMRs, TDMRs, control structures, configuration, migration, services, nesting.
        #expect(order == [0, 8, 9, 10, 16, 17, 24, 25, 32, 33, 34])
    }

    @Test(
        arguments: [
            (0x0800_0001_0000_0003, 5, 0x0800_0001_0000_0004), (0x0800_0001_0000_0004, 1, 0x0800_0001_0000_0005),
            (0x0A00_0003_0000_0008, 0xF_0EBF, 0x9000_0001_0000_0000),
            (0x9000_0001_0000_0000, 32, 0x9000_0003_0000_0080),
            (0x9000_0003_0000_0080, 4 << 30, 0x9000_0003_0000_0081),
            (0x9000_0003_0000_0100, 2 << 30, 0x9000_0003_0000_0101),
            (0x9000_0003_0000_011F, 0, 0x9100_0001_0000_0008), (0x9800_0001_0000_0101, 4096, 0x9800_0001_0000_0200),
            (0x1900_0003_0000_0002, 0x6_DBE7, 0x1900_0003_0000_0003),
            (0x9900_0001_0000_0004, 12, 0x9900_0003_0000_0006),
            (0x9900_0003_0000_0400, 0xFFFF_FFFF_0000_0001, 0x9900_0003_0000_0401),
            (0x9900_0003_0000_0401, 0x4, 0x9900_0003_0000_0402), (0x9900_0003_0000_040B, 0x23, 0x9900_0003_0000_040C),
            (0x9900_0003_0000_040C, .max, 0x9900_0003_0000_040D),
            (0x9900_0003_0000_0500, 0x00FF_0000_0FFF_3FFF, 0x9900_0003_0000_0501),
            (0x9900_0003_0000_0509, 0x7_FFFF_FFFF, 0x9900_0003_0000_050A),
            (0x9900_0003_0000_0600, 0x118_0010, 0x9900_0001_0000_0800), (0xA200_0003_0000_0006, 0, .max),
        ] as [(UInt64, UInt64, UInt64)])
    func `of the module have the published values`(id: UInt64, value: UInt64, next: UInt64) throws {
        let host = try Host()
        try host.must(.sysRd, rdx: id)
        #expect(host.registers.r8 == value && host.registers.rdx == next)
        // Element size, context and write-mask bits of an identifier are not looked at, and stay in the next one.
        try host.must(.sysRd, rdx: id ^ 1 << 51 ^ 5 << 52)
        #expect(host.registers.r8 == value)
        #expect(host.call(.sysRd, rdx: id | 1 << 24) == .metadataFieldIDIncorrect)
        #expect(host.registers.r8 == 0 && host.registers.rdx == .max)
        #expect(host.call(.sysRd, rdx: id | 1 << 34) == .metadataFieldIDIncorrect)
    }

    @Test func `of the module need LP.INIT alone`() throws {
        let host = try Host(bringUp: false)
        #expect(host.call(.sysRd, rdx: 0x0800_0001_0000_0003, r8: 7) == .sysLPInitNotDone)
        #expect(host.registers.r8 == 0 && host.registers.rdx == .max)
        try host.must(.sysInit)
        try host.must(.sysLpInit)
        try host.must(.sysRd, rdx: 0x0800_0001_0000_0003)
        host.processor = LogicalProcessorID(1)
        #expect(host.call(.sysRd, rdx: 0x0800_0001_0000_0003) == .sysLPInitNotDone)
    }

    @Test func `of the module are one list of sequences`() throws {
        let host = try Host()
        #expect(host.call(.sysRdall, rdx: 0x3010, r8: .max) == .operandInvalid.with(.rdx))
        #expect(host.registers.r8 == .max)
        try host.must(.sysRdall, rdx: 0x3000, r8: .max)
        #expect(host.registers.r8 == .max)
        var words = [UInt64](repeating: 0, count: 512)
        words.withUnsafeMutableBytes { host.memory.read(HostPhysicalAddress(0x3000), key: KeyID(0), into: $0) }
        var at = 1
        var found: [UInt64: UInt64] = [:]
        // The header of a sequence is its first field's identifier; whether fields are architectural may differ within one.
        for _ in 0..<(words[0] >> 16 & 0xFFFF) {
            let header = words[at]
            at += 1
            let (elements, fields) = (header >> 34 & 0xF + 1, header >> 38 & 0x1FF + 1)
            for place in 0..<elements * fields {
                found[header & ~(0x1FFF << 34 | 1 << 63) + place] = words[at]
                at += 1
            }
        }
        #expect(UInt64(at * 8) == words[0] & 0xFFFF && found.count == 354)
        #expect(found[0x0800_0001_0000_0003] == 5 && found[0x1900_0003_0000_0401] == 4)
        #expect(found[0x1900_0003_0000_0501] == 0)
        // From the middle on, and from what is no field's first element.
        try host.must(.sysRdall, rdx: 0x3000, r8: 0x9900_0003_0000_0502)
        #expect(host.call(.sysRdall, rdx: 0x3000, r8: 0x9900_0003_0000_0503) == .metadataFieldIDIncorrect)
    }

    @Test func `of a TD are the published ones of 83 rows`() throws {
        let host = try Host()
        let (tdr, _) = try host.makeRunnable()
        let all = try elements(host, .mngRd, rcx: tdr, version: 1)
        #expect(Set(all).count == all.count)
        // 52 rows of a production TD, among them 128 CPUID words and 512 stream links.
        #expect(all.count == 766)
        #expect(all[0] == 0x8010_0000_0000_0001 && all[all.count - 1] == 0x9A10_0003_0000_01FF)
        #expect(!all.contains(0x1310_0003_0000_0040) && !all.contains(0x1110_0003_0000_0017))
    }

    @Test(
        arguments: [
            (0x8010_0002_0000_0002, 6), (0x8010_0003_0000_0004, 12), (0x9010_0002_0000_0004, 2),
            (0x9010_0002_0000_0001, 1),
            (0x9010_0002_0000_0002, 1), (0x1110_0003_0000_0000, 1 << 28), (0x1110_0002_0000_0002, 8),
            (0x9210_0003_0000_0000, 1), (0x1110_0001_0000_000C, 100), (0x9110_0001_0000_000E, 64),
            // 2.5 GHz on a processor of 2 GHz: 1.25 with 48 bits of fraction.
            (0x1110_0003_0000_000B, 0x1_4000_0000_0000), (0x9110_0003_0000_0011, 1_000_000),
            (0x9110_0002_0000_000F, 576),
        ] as [(UInt64, UInt64)])
    func `of a TD are read by id`(id: UInt64, value: UInt64) throws {
        let host = try Host()
        let (tdr, _) = try host.makeRunnable()
        try host.must(.mngRd, rcx: tdr, rdx: id)
        #expect(host.registers.r8 == value && host.registers.rdx == id)
        try host.must(.mngRd, version: 1, rcx: tdr, rdx: id)
        #expect(host.registers.r8 == value && host.registers.rdx != id)
    }

    @Test func `of a TD hold addresses with its key id`() throws {
        let host = try Host()
        let (tdr, _) = try host.makeRunnable()
        try host.must(.mngRd, rcx: tdr, rdx: 0x8010_0003_0000_0010)
        let key = UInt64(host.state(tdr).keyID.rawValue)
        #expect(host.registers.r8 == tdr + 4096 | key << 46)
        // The Secure EPT's root is named without it.
        try host.must(.mngRd, rcx: tdr, rdx: 0x1110_0003_0000_0004)
        #expect(host.registers.r8 == tdr + 4 * 4096 | 0x1E)
    }

    @Test func `of a TD that cannot be read say why, and leave R8 as 0`() throws {
        let host = try Host()
        let (tdr, _) = try host.makeRunnable()
        func refusal(_ id: UInt64, version: UInt8 = 1) -> TDXStatus {
            let status = host.call(.mngRd, version: version, rcx: tdr, rdx: id, r8: 7)
            #expect(host.registers.r8 == 0 && host.registers.rdx == (version == 0 ? id : .max))
            return status
        }
        #expect(refusal(0x3F10_0000_0000_0000) == .metadataFieldIDIncorrect)
        #expect(refusal(0x3F10_0000_0000_0000, version: 0) == .metadataFieldIDIncorrect)
        #expect(refusal(5, version: 2) == .operandInvalid.with(.rax))
        // RTMR and TD_CTLS of a production TD.
        #expect(refusal(0x1310_0003_0000_0040) == .metadataFieldNotReadable)
        #expect(refusal(0x1110_0003_0000_0017) == .metadataFieldNotReadable)
        // The null identifier asks for the first field in version 1 alone.
        #expect(refusal(.max, version: 0) == .metadataFieldIDIncorrect)
        // CPUID: a leaf that raises #VE, one that is not virtualised, a reserved bit.
        #expect(refusal(CPUIDConfiguration.field(6, .max, ofECXAndEDX: false)) == .metadataFieldNotReadable)
        #expect(refusal(CPUIDConfiguration.field(2, .max, ofECXAndEDX: false)) == .metadataFieldIDIncorrect)
        #expect(refusal(CPUIDConfiguration.field(1, .max, ofECXAndEDX: false) | 1 << 17) == .metadataFieldIDIncorrect)
    }

    @Test func `of a debug TD show what a debugger needs`() throws {
        let host = try Host()
        let tdr = try host.makeTD { $0[0] = 1 }
        try host.must(.mngRd, rcx: tdr, rdx: 0x1310_0003_0000_0040)
        try host.must(.mngRd, rcx: tdr, rdx: 0x1110_0003_0000_0017)
        #expect(host.registers.r8 == 1)
        try host.must(.mngRd, rcx: tdr, rdx: 0x2110_0003_0000_0000)
        #expect(host.registers.r8 == 0x80E0_0000_0000_0000)
    }

    @Test func `that the host may write keep to their limits`() throws {
        let host = try Host()
        let (tdr, _) = try host.makeRunnable()
        let id: UInt64 = 0x9110_0003_0000_0011
        func write(_ id: UInt64, _ value: UInt64, _ mask: UInt64) -> TDXStatus {
            host.call(.mngWr, rcx: tdr, rdx: id, r8: value, r9: mask)
        }
        #expect(write(0x9010_0002_0000_0004, 1, .max) == .metadataFieldNotWritable && host.registers.r8 == 0)
        #expect(write(id, 9_999, .max) == .metadataFieldValueNotValid && host.registers.r8 == 0)
        #expect(write(id, 100_000_001, .max) == .metadataFieldValueNotValid)
        #expect(write(id, 20_000, .max) == .success && host.registers.r8 == 1_000_000)
        #expect(write(id, 30_000, 0xFFFF_FFFF) == .metadataWrMaskNotValid && host.registers.r8 == 0)
        #expect(write(id, 30_000, 0) == .metadataFieldNotWritable)
        #expect(write(id, 30_000, .max) == .success && host.registers.r8 == 20_000)
        // 3 s are more ticks of 2 GHz than the 32 bits that the module keeps.
        #expect(write(id, 3_000_000, .max) == .success)
        try host.must(.mngRd, rcx: tdr, rdx: id)
        #expect(host.registers.r8 == (6_000_000_000 & 0xFFFF_FFFF) / 2000)
        // VM_CTLS: bit 0 alone; another bit may only be named when it does not change.
        #expect(write(0x9110_0003_0000_0013, 1, .max) == .success && host.registers.r8 == 0)
        #expect(write(0x9110_0003_0000_0013, 2, .max) == .metadataFieldValueNotValid)
    }
}

@Suite struct `What a TD sees of CPUID` {
    private func words(_ host: Host, _ tdr: UInt64, _ leaf: UInt32, _ subleaf: UInt32 = .max) throws -> [UInt32] {
        try [false, true].flatMap { second in
            try host.must(.mngRd, rcx: tdr, rdx: CPUIDConfiguration.field(leaf, subleaf, ofECXAndEDX: second))
            return [UInt32(truncatingIfNeeded: host.registers.r8), UInt32(host.registers.r8 >> 32)]
        }
    }

    @Test func `has the processor's name, x2APIC, and the highest leaves of the module`() throws {
        let host = try Host()
        let (tdr, _) = try host.makeRunnable()
        #expect(try words(host, tdr, 0) == [0x23, 0x756E_6547, 0x6C65_746E, 0x4965_6E69])
        #expect(try words(host, tdr, 0x8000_0000)[0] == 0x8000_0008)
        let version = try words(host, tdr, 1)
        #expect(version[0] == 0x806F8 && version[2] & 1 << 21 != 0 && version[2] & 1 << 31 != 0)
        // Bits that can only be cleared are clear, as TD_PARAMS did not set them.
        #expect(version[2] & 0x3104_4D88 == 0)
        // 48-bit linear addresses without LA57, and the processor's 52 physical bits.
        #expect(try words(host, tdr, 0x8000_0008)[0] == 0x3034)
        // The TSC's frequency is TD_PARAMS'.
        #expect(try words(host, tdr, 0x15) == [1, 100, 25_000_000, 0])
        // XSAVE: x87 and SSE alone.
        #expect(try words(host, tdr, 0xD, 0) == [3, 0, 576, 0])
        #expect(try words(host, tdr, 0xD, 2) == [0, 0, 0, 0])
    }

    @Test func `follows XFAM, ATTRIBUTES and what TD_PARAMS configures`() throws {
        let host = try Host()
        let tdr = try host.makeTD {
            $0[8] = 0xE7  // AVX-512
            $0[3] = 0x40  // PKS
            $0[256 + 8 + 3] = 0x10  // leaf 1 ECX[28]: AVX
            $0[256 + 5 * 16 + 8 + 2] = 1  // leaf 7 ECX[16]: LA57
            $0[256 + 16] = 0x21  // leaf 4.0 EAX, as it is
        }
        #expect(try words(host, tdr, 1)[2] & 0x3104_4D88 == 1 << 28)
        #expect(try words(host, tdr, 7, 0)[2] & (1 << 31 | 1 << 16) == 1 << 31 | 1 << 16)
        #expect(try words(host, tdr, 4, 0) == [0x21, 0x3F, 0, 0])
        #expect(try words(host, tdr, 0x8000_0008)[0] == 0x3934)
        #expect(try words(host, tdr, 0xD, 0) == [0xE7, 0, 0xA80, 0])
        #expect(try words(host, tdr, 0xD, 7)[0] == 0x400)
    }

    @Test(
        arguments: [
            // offset, bytes, status, RCX
            (256, [0x01], 0xC000_0100_0000_0045, 0xFFFF_FFFF_0000_0001),
            (256 + 3, [0x80], 0xC000_0100_0000_0045, 0xFFFF_FFFF_0000_0001),
            (256 + 8 + 2, [0x20], 0xC000_0100_0000_0045, 0xFFFF_FFFF_0000_0001),
            (256 + 16 + 1, [0x3C], 0xC000_0100_0000_0045, 4),
            (256 + 4 * 16 + 12, [8], 0xC000_0100_0000_0045, 0x3_0000_0004),
            (256 + 5 * 16 + 4, [0x10], 0xC000_0100_0000_0045, 0), (256 + 5 * 16 + 5, [0x08], 0xC000_0100_0000_0045, 0),
            (256 + 7 * 16, [1], 0xC000_0100_0000_0045, 0xFFFF_FFFF_0000_000A),
            (256 + 9 * 16 + 2, [0x30], 0xC000_0100_0000_0045, 0xFFFF_FFFF_8000_0008),
            (256 + 10 * 16 + 12, [1], 0xC000_0100_0000_0045, 0x2_0000_0007),
            (256 + 11 * 16, [0x10], 0xC000_0100_0000_0045, 0x23),
            // IA32_ARCH_CAPABILITIES: not asked for, then bits that cannot be configured.
            (224, [0x10], 0xC000_0100_0000_0048, 0), (224, [1], 0xC000_0100_0000_0048, 0),
        ] as [(Int, [UInt8], UInt64, UInt64)])
    func `is refused when TD_PARAMS asks for more`(offset: Int, bytes: [UInt8], status: UInt64, rcx: UInt64) throws {
        let host = try Host()
        #expect(throws: CallFailed.self) {
            _ = try host.makeTD {
                if bytes == [1], offset == 224 { $0[19] = 1 }
                $0.replaceSubrange(offset..<offset + bytes.count, with: bytes)
            }
        }
        #expect(host.registers.rax == status && host.registers.rcx == rcx)
    }

    @Test func `has HLE and RTM both or none, and only with IA32_TSX_CTRL`() throws {
        var platform = PlatformDescription(memory: .gibibytes(2))
        func make() throws -> Host {
            let host = try Host(platform)
            _ = try host.makeTD { $0.replaceSubrange(340..<342, with: [0x10, 0x08]) }
            return host
        }
        #expect(throws: Never.self) { try make() }
        platform.processor.archCapabilities &= ~(1 << 7)
        let host = try Host(platform)
        #expect(throws: CallFailed.self) { _ = try host.makeTD { $0.replaceSubrange(340..<342, with: [0x10, 0x08]) } }
        #expect(host.registers.rax == 0xC000_0921_0000_010A && host.registers.rcx == 0)
    }

    @Test func `may be of an older stepping or generation in a migratable TD`() throws {
        let host = try Host()
        func make(_ signature: UInt32, migratable: Bool) throws {
            _ = try host.makeTD {
                if migratable { $0[3] |= 0x20 }
                for byte in 0..<4 { $0[256 + byte] = UInt8(truncatingIfNeeded: signature >> (8 * UInt32(byte))) }
            }
        }
        #expect(throws: Never.self) { try make(0x806F8, migratable: false) }
        #expect(throws: Never.self) { try make(0x806F6, migratable: true) }
        #expect(throws: CallFailed.self) { try make(0x806F6, migratable: false) }
        #expect(throws: CallFailed.self) { try make(0x806F9, migratable: true) }
        #expect(throws: CallFailed.self) { try make(0xC06F2, migratable: true) }
    }
}

@Suite struct `Fields of a vCPU` {
    /// The VMCS fields that Linux 7.2 writes in KVM_TDX_INIT_VCPU, with its masks.
    @Test func `take what Linux writes`() throws {
        let host = try Host()
        let tdr = try host.makeTD()
        let tdvpr = try host.makeVCPU(tdr)
        func write(_ encoding: UInt64, _ value: UInt64, _ mask: UInt64) -> TDXStatus {
            host.call(.vpWr, rcx: tdvpr, rdx: encoding, r8: value, r9: mask)
        }
        // Posted interrupts cannot be switched on before their vector and descriptor are there.
        #expect(write(0x4000, 0x80, 0x80).rawValue == 0xC000_0730_0000_0002)
        #expect(write(0x2, 0xF2, 0xFFFF) == .success && host.registers.r8 == 0xFFFF)
        #expect(write(0x4000, 0x80, 0x80).rawValue == 0xC000_0730_0000_2016)
        #expect(write(0x2016, 0x10_0040, .max) == .success && host.registers.r8 == .max)
        #expect(write(0x4000, 0x80, 0x80) == .success && host.registers.r8 == 0)
        #expect(write(0x203C, 0x20_0000, .max) == .success)
        // What was there is the zero page of TDCS, under the read mask.
        #expect(host.registers.r8 == tdr + 5 * 4096 | UInt64(host.state(tdr).keyID.rawValue) << 46)
        for (encoding, value) in [(0x2, 0xF2), (0x2016, 0x10_0040), (0x203C, 0x20_0000), (0x4000, 0x80)]
            as [(UInt64, UInt64)]
        {
            try host.must(.vpRd, rcx: tdvpr, rdx: encoding)
            #expect(host.registers.r8 == value && host.registers.rdx == encoding)
        }
        // A vector above 255, a private address, a bit outside the mask, a "high" code.
        #expect(write(0x2, 0x100, 0xFFFF) == .metadataFieldValueNotValid)
        #expect(write(0x203C, 33 << 46, .max) == .metadataFieldValueNotValid)
        #expect(write(0x203C, 0x20_0001, .max) == .metadataFieldValueNotValid)
        #expect(write(0x2017, 0, .max) == .metadataFieldIDIncorrect)
        #expect(write(0x2004, 0, .max) == .metadataFieldNotWritable)
        #expect(host.registers.r8 == 0)
        #expect(host.call(.vpRd, version: 1, rcx: tdvpr, rdx: 0x6800, r8: 7) == .metadataFieldNotReadable)
        #expect(host.registers.r8 == 0 && host.registers.rdx == .max)
    }

    @Test func `tell of a pending NMI and a pending interrupt`() throws {
        let host = try Host()
        let (_, tdvpr) = try host.makeRunnable()
        let nmi: UInt64 = 0x202000000000000B
        try host.must(.vpWr, rcx: tdvpr, rdx: nmi, r8: 1, r9: 1)
        try host.must(.vpRd, rcx: tdvpr, rdx: nmi)
        #expect(host.registers.r8 == 1)
        let details: UInt64 = 0x9120_0003_0000_0100
        try host.must(.vpRd, rcx: tdvpr, rdx: details)
        #expect(host.registers.r8 == 0)
        host.module.setRequestedInterrupt(0x41, vcpu: HostPhysicalAddress(tdvpr))
        try host.must(.vpRd, rcx: tdvpr, rdx: details)
        #expect(host.registers.r8 == 1)
        host.module.setRequestedInterrupt(nil, vcpu: HostPhysicalAddress(tdvpr))
        try host.must(.vpRd, rcx: tdvpr, rdx: details)
        #expect(host.registers.r8 == 0)
    }

    @Test func `of a production TD are 40 elements, the VMCS's first`() throws {
        let host = try Host()
        let (_, tdvpr) = try host.makeRunnable()
        #expect(host.call(.vpRd, version: 1, rcx: tdvpr, rdx: .max) == .metadataFirstFieldIDInContext)
        var ids: [UInt64] = []
        while host.registers.rdx != .max, ids.count < 100 {
            ids.append(host.registers.rdx)
            try host.must(.vpRd, version: 1, rcx: tdvpr, rdx: host.registers.rdx)
        }
        #expect(ids.count == 40 && ids[0] == 0x0024_0001_0000_0002 && ids[15] == 0x0024_0002_0000_4026)
        #expect(ids[16] == 0x9120_0003_0000_0100)
    }

    @Test func `associate the vCPU with the processor that reads them`() throws {
        let host = try Host()
        let (tdr, tdvpr) = try host.makeRunnable()
        host.processor = LogicalProcessorID(1)
        #expect(host.call(.vpRd, rcx: tdvpr, rdx: 0x2, r8: 7) == .vcpuAssociated && host.registers.r8 == 0)
        host.processor = LogicalProcessorID(0)
        try host.must(.vpFlush, rcx: tdvpr)
        #expect(host.state(tdr).associatedVCPUs == 0)
        host.processor = LogicalProcessorID(1)
        // It stays associated whatever comes of the field.
        #expect(host.call(.vpRd, rcx: tdvpr, rdx: 0x3F20_0000_0000_0000) == .metadataFieldIDIncorrect)
        #expect(host.state(tdr).associatedVCPUs == 1)
        #expect(host.call(.mngVpflushdone, rcx: tdr) == .flushvpNotDone)
    }

    @Test func `can be read, but not written, of a disabled vCPU, and neither of one that was not initialised`() throws
    {
        let host = try Host()
        let (tdr, tdvpr) = try host.makeRunnable()
        #expect(host.enter(tdvpr) == .success)
        host.exit(tdvpr, .nonRecoverableVCPU(reason: 2))
        try host.must(.vpRd, rcx: tdvpr, rdx: 0xA020_0002_0000_0002)
        #expect(host.call(.vpWr, rcx: tdvpr, rdx: 0x202000000000000B, r8: 1, r9: 1) == .vcpuStateIncorrect)
        _ = tdr
        let other = try host.makeTD()
        let fresh = host.page()
        try host.must(.vpCreate, rcx: fresh, rdx: other)
        #expect(host.call(.vpRd, rcx: fresh, rdx: 2) == .tdcxNumIncorrect)
        for _ in 0..<5 { try host.must(.vpAddcx, rcx: host.page(), rdx: fresh) }
        #expect(host.call(.vpRd, rcx: fresh, rdx: 2) == .vcpuStateIncorrect)
    }

    @Test func `of a debug TD hold the state in which the guest begins`() throws {
        let host = try Host()
        let tdvpr = try host.makeVCPU(try host.makeTD { $0[0] = 1 })
        for (id, value) in [
            (0x1020_0003_0000_0001, 0x1234), (0x1020_0003_0000_0002, 0x806F8), (0x1020_0003_0000_0003, 48),
            (0x6800, 0x21), (0x6804, 0x2040), (0x681E, 0xFFFF_FFF0), (0x4816, 0xC09B),
        ] as [(UInt64, UInt64)] {
            try host.must(.vpRd, rcx: tdvpr, rdx: id)
            #expect(host.registers.r8 == value, "\(String(id, radix: 16))")
        }
        try host.must(.vpWr, rcx: tdvpr, rdx: 0x1020_0003_0000_000F, r8: 0x77, r9: 0xFF)
        try host.must(.vpRd, rcx: tdvpr, rdx: 0x1020_0003_0000_000F)
        #expect(host.registers.r8 == 0x77)
        #expect(
            host.call(.vpWr, rcx: tdvpr, rdx: 0x1320_0003_0000_0DA0, r8: 1 << 8, r9: .max) == .metadataFieldNotWritable)
    }
}
