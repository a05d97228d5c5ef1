internal import MemoryUnits
internal import Synchronization

/// A metadata field of a trust domain that MNG.RD shows (reference §1.2).
struct TrustDomainField: Sendable {
    var id: UInt64
    var read: @Sendable (TDXModule, TDAccess) -> UInt64
    /// Writes a value that was merged with the old one; false when it is not legal. Nil for fields that the host
    /// cannot write.
    var write: (@Sendable (TDAccess, UInt64) -> Bool)?

    /// By id, ascending within each context.
    static let all: [TrustDomainField] = management + control + cpuid + measurement

    private static func field(
        _ id: UInt64, _ read: @escaping @Sendable (TDXModule, TDAccess) -> UInt64
    ) -> TrustDomainField { TrustDomainField(id: id, read: read, write: nil) }

    private static func context(
        _ id: UInt64, _ read: @escaping @Sendable (TDContext.Contents) -> UInt64
    ) -> TrustDomainField {
        field(id) { _, access in access.td.details.contents.withLock { read($0) } }
    }

    /// Eight bytes of an array, as a word.
    private static func words(
        _ id: UInt64, _ count: Int, _ bytes: @escaping @Sendable (TDContext.Contents) -> [UInt8]
    ) -> [TrustDomainField] {
        (0..<count).map { index in
            context(id + UInt64(index)) { contents in
                let all = bytes(contents)
                return (0..<8).reduce(UInt64(0)) { $0 | UInt64(all[8 * index + $1]) << (8 * UInt64($1)) }
            }
        }
    }

    private static let management: [TrustDomainField] =
        [
            field(0x8010_0000_0000_0001) { _, access in access.state.isFatal ? 1 : 0 },
            field(0x8010_0002_0000_0002) { _, access in UInt64(access.state.tdcxCount) },
            field(0x8010_0003_0000_0004) { _, access in access.td.pointee.children.get() },
            field(0x8010_0002_0000_0005) { _, access in UInt64(access.state.lifecycle) },
        ]
        + (0..<9).map { index in
            context(0x8010_0003_0000_0010 + UInt64(index)) {
                index < $0.controlPages.count ? $0.controlPages[index] : 0
            }
        }
        + words(0x8010_0003_0000_0020, 4) { $0.uuid } + [
            field(0x8110_0001_0000_0001) { _, access in UInt64(access.state.key) },
            context(0x8110_0003_0000_0002) { $0.packagesConfigured },
        ]

    private static let control: [TrustDomainField] = [
        field(0x9010_0001_0000_0005) { _, _ in 0 },
        field(0x9010_0002_0000_0001) { _, access in access.td.pointee.vcpus.get() & 0xFFFF_FFFF },
        field(0x9010_0002_0000_0002) { _, access in access.td.pointee.vcpus.get() >> 32 },
        field(0x9010_0002_0000_0004) { _, access in UInt64(access.state.opState) },
        context(0x1110_0003_0000_0000) { $0.parameters.attributes },
        context(0x1110_0003_0000_0001) { $0.parameters.xfam },
        context(0x1110_0002_0000_0002) { UInt64($0.parameters.maxVCPUs) },
        context(0x1110_0000_0000_0003) { $0.parameters.isWide ? 1 : 0 },
        field(0x1110_0003_0000_0004) { module, access in
            let controls = access.td.details.contents.withLock { $0.parameters.eptpControls }
            return module.tables.address(access.td.pointee.rootTable.get()) | controls
        },
        TrustDomainField(
            id: 0x9110_0003_0000_0011,
            read: { _, access in access.td.details.contents.withLock { $0.hostPriorityTimeout } },
            write: { access, value in
                // 10 ms … 100 s, in microseconds (reference §7.3).
                guard (10_000...100_000_000).contains(value) else { return false }
                access.td.details.contents.withLock { $0.hostPriorityTimeout = value }
                return true
            }),
        context(0x1110_0003_0000_0016) { $0.parameters.configFlags },
        context(0x1110_0003_0000_0017) { $0.controls },
        field(0x9210_0003_0000_0000) { _, access in access.td.pointee.epoch.get() },
        field(0x9210_0001_0000_0001) { module, access in module.insideCount(access.td, parity: 0) },
        field(0x9210_0001_0000_0002) { module, access in module.insideCount(access.td, parity: 1) },
    ]

    /// What TD_PARAMS chose of the configurable leaves. Of the others, and of bits that cannot be configured, nothing is
    /// known: no processor stands behind the model.
    private static let cpuid: [TrustDomainField] = CPUIDConfiguration.all.enumerated().flatMap { index, leaf in
        [0, 2].map { word in
            context(leaf.field(ofECXAndEDX: word == 2)) { contents in
                let values = contents.parameters.cpuid
                guard values.count > 4 * index + word + 1 else { return 0 }
                return UInt64(values[4 * index + word]) | UInt64(values[4 * index + word + 1]) << 32
            }
        }
    }

    private static let measurement: [TrustDomainField] =
        words(0x1310_0003_0000_0000, 6) { $0.mrtd }
        + words(0x1310_0003_0000_0010, 6) { $0.parameters.mrConfigID }
        + words(0x1310_0003_0000_0018, 6) { $0.parameters.mrOwner }
        + words(0x1310_0003_0000_0020, 6) { $0.parameters.mrOwnerConfig }
        + words(0x1310_0003_0000_0040, 24) { $0.rtmrs.flatMap { $0 } }

    static let places: [UInt64: Int] = Dictionary(
        all.enumerated().map { ($0.element.id, $0.offset) }, uniquingKeysWith: { first, _ in first })
}

/// A field of the module that SYS.RD shows (reference §1.7).
enum SystemField {
    static func all(_ platform: PlatformDescription) -> [(id: UInt64, value: UInt64)] {
        let isLate = platform.version == .late
        // Host-priority locks, NO_RBP_MOD; [late] topology by x2APIC ids, dynamic PAMT and uninterrupted demotion.
        let features: UInt64 = 1 << 10 | 1 << 18 | (isLate ? 1 << 20 | 1 << 36 | 1 << 51 : 0)
        var fields: [(UInt64, UInt64)] = [
            (0x0A00_0003_0000_0008, features),
            (0x1900_0003_0000_0000, TDParameters.allowedAttributes(platform.version)),
            (0x1900_0003_0000_0001, 0),
            (0x1900_0003_0000_0002, TDParameters.allowedXFAM),
            (0x1900_0003_0000_0003, TDParameters.requiredXFAM),
            (0x9000_0001_0000_0000, UInt64(platform.convertibleMemory.count)),
            (0x9100_0001_0000_0008, 64),
            (0x9100_0001_0000_0009, 16),
            (0x9100_0001_0000_0010, 16),
            (0x9100_0001_0000_0011, 16),
            (0x9100_0001_0000_0012, 16),
            (0x9800_0001_0000_0000, 4096),
            (0x9800_0001_0000_0100, 6 * 4096),
            (0x9800_0001_0000_0200, 6 * 4096),
            (0x9900_0001_0000_0004, UInt64(CPUIDConfiguration.all.count)),
            (0x9900_0003_0000_0006, isLate ? 0x9F : 0x7),
            (0x9900_0003_0000_0007, 0),
        ]
        if isLate { fields.append((0x9900_0001_0000_0008, 0xFFFF)) }
        return fields
    }
}
