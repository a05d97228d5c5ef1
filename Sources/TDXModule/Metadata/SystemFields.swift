internal import MemoryUnits
internal import TDXStatusCodes

/// A field of the module itself, which SYS.RD, SYS.RDALL and TDG.SYS.RD show; the raw value is its published identifier.
enum SystemField: UInt64, CaseIterable, Sendable {
    case packages = 0x0000_0002_0000_0000
    case packageSignatures = 0x0000_0002_0000_0001
    case vendor = 0x0800_0002_0000_0000
    case buildDate = 0x8800_0002_0000_0001
    case buildNumber = 0x8800_0001_0000_0002
    case minorVersion = 0x0800_0001_0000_0003
    case majorVersion = 0x0800_0001_0000_0004
    case updateVersion = 0x0800_0001_0000_0005
    case internalVersion = 0x0800_0001_0000_0006
    case handoffVersion = 0x8900_0001_0000_0000
    case minimumUpdateVersion = 0x8900_0001_0000_0001
    case noDowngrade = 0x8900_0000_0000_0002
    case handoffPages = 0x8900_0001_0000_0003
    case handoffDataValid = 0x8900_0000_0000_0004
    case handoffDataVersion = 0x8900_0001_0000_0005
    case handoffDataSize = 0x8900_0002_0000_0006
    case attributes = 0x0A00_0002_0000_0000
    case featureWords = 0x0A00_0000_0000_0001
    case features = 0x0A00_0003_0000_0008
    case convertibleRegions = 0x9000_0001_0000_0000
    case convertibleBases = 0x9000_0003_0000_0080
    case convertibleSizes = 0x9000_0003_0000_0100
    case maximumTDMRs = 0x9100_0001_0000_0008
    case maximumReserved = 0x9100_0001_0000_0009
    case pamtEntrySize4K = 0x9100_0001_0000_0010
    case pamtEntrySize2M = 0x9100_0001_0000_0011
    case pamtEntrySize1G = 0x9100_0001_0000_0012
    case tdrSize = 0x9800_0001_0000_0000
    case tdcsSize = 0x9800_0001_0000_0100
    case tdcsSizePerNestedVM = 0x9800_0001_0000_0101
    case tdvpsSize = 0x9800_0001_0000_0200
    case tdvpsSizePerNestedVM = 0x9800_0001_0000_0201
    case attributesFixed0 = 0x1900_0003_0000_0000
    case attributesFixed1 = 0x1900_0003_0000_0001
    case xfamFixed0 = 0x1900_0003_0000_0002
    case xfamFixed1 = 0x1900_0003_0000_0003
    case cpuidConfigurations = 0x9900_0001_0000_0004
    case configFlagsFixed0 = 0x9900_0003_0000_0006
    case configFlagsFixed1 = 0x9900_0003_0000_0007
    /// [late]
    case maximumVCPUs = 0x9900_0001_0000_0008
    case cpuidLeaves = 0x9900_0003_0000_0400
    case cpuidValues = 0x9900_0003_0000_0500
    case archCapabilitiesMask = 0x9900_0003_0000_0600
    case allowedSignatureCount = 0x9900_0001_0000_0800
    case disallowedSignatureCount = 0x9900_0001_0000_0801
    case allowedSignatures = 0x9900_0003_0000_0810
    case disallowedSignatures = 0x9900_0003_0000_0850
    case migrationAttributes = 0xA000_0003_0000_0000
    case minimumExportVersion = 0x2000_0001_0000_0001
    case maximumExportVersion = 0x2000_0001_0000_0002
    case minimumImportVersion = 0x2000_0001_0000_0003
    case maximumImportVersion = 0x2000_0001_0000_0004
    case migrationStreams = 0xA000_0001_0000_0010
    case immutableStatePages = 0xA000_0000_0000_0020
    case trustDomainStatePages = 0xA000_0000_0000_0021
    case vcpuStatePages = 0xA000_0000_0000_0022
    case serviceTDs = 0xA100_0001_0000_0000
    case serviceAttributesFixed0 = 0xA100_0003_0000_0001
    case serviceAttributesFixed1 = 0xA100_0003_0000_0002
    case nestedPageAttributes = 0xA200_0001_0000_0000
    case vmControlsFixed0 = 0xA200_0003_0000_0001
    case vmControlsFixed1 = 0xA200_0003_0000_0002
    case nestedControlsFixed0 = 0xA200_0003_0000_0003
    case nestedControlsFixed1 = 0xA200_0003_0000_0004
    case nestedDebugControlsFixed0 = 0xA200_0003_0000_0005
    case nestedDebugControlsFixed1 = 0xA200_0003_0000_0006

    /// The published rows, in the order in which one field follows another; [late] has one more.
    static let table = MetadataTable(.system, published)
    static let lateTable = MetadataTable(
        .system,
        published.replacing(
            "9900000300000400 ", with: "9900000100000008    1  1  all  -\n        9900000300000400 ", maxReplacements: 1
        ))

    private static let published = """
        0000000200000000    1  1  all  -
        0000000200000001    8  1  all  -
        0800000200000000    1  1  all  all
        8800000200000001    1  1  all  -
        8800000100000002    1  1  all  -
        0800000100000003    1  1  all  all
        0800000100000004    1  1  all  all
        0800000100000005    1  1  all  -
        0800000100000006    1  1  all  -
        8900000100000000    1  1  all  -
        8900000100000001    1  1  all  -
        8900000000000002    1  1  all  -
        8900000100000003    1  1  all  -
        8900000000000004    1  1  all  -
        8900000100000005    1  1  all  -
        8900000200000006    1  1  all  -
        0A00000200000000    1  1  all  all
        0A00000000000001    1  1  all  all
        0A00000300000008    1  1  all  all
        9000000100000000    1  1  all  -
        9000000300000080   32  1  all  -
        9000000300000100   32  1  all  -
        9100000100000008    1  1  all  -
        9100000100000009    1  1  all  -
        9100000100000010    1  1  all  -
        9100000100000011    1  1  all  -
        9100000100000012    1  1  all  -
        9800000100000000    1  1  all  -
        9800000100000100    1  1  all  -
        9800000100000101    1  1  all  -
        9800000100000200    1  1  all  -
        9800000100000201    1  1  all  -
        1900000300000000    1  1  all  -
        1900000300000001    1  1  all  -
        1900000300000002    1  1  all  -
        1900000300000003    1  1  all  -
        9900000100000004    1  1  all  -
        9900000300000006    1  1  all  -
        9900000300000007    1  1  all  -
        9900000300000400   32  1  all  -
        9900000300000500   32  2  all  -
        9900000300000600    1  1  all  -
        9900000100000800    1  1  all  -
        9900000100000801    1  1  all  -
        9900000300000810   64  1  all  -
        9900000300000850   64  1  all  -
        A000000300000000    1  1  all  all
        2000000100000001    1  1  all  all
        2000000100000002    1  1  all  all
        2000000100000003    1  1  all  all
        2000000100000004    1  1  all  all
        A000000100000010    1  1  all  -
        A000000000000020    1  1  all  -
        A000000000000021    1  1  all  -
        A000000000000022    1  1  all  -
        A100000100000000    1  1  all  -
        A100000300000001    1  1  all  -
        A100000300000002    1  1  all  -
        A200000100000000    1  1  all  all
        A200000300000001    1  1  all  -
        A200000300000002    1  1  all  -
        A200000300000003    1  1  all  -
        A200000300000004    1  1  all  -
        A200000300000005    1  1  all  -
        A200000300000006    1  1  all  -
        """
}

extension TDXModule {
    /// The module's fields of its version.
    var systemFields: MetadataTable { isLate ? SystemField.lateTable : SystemField.table }

    /// The value of a field of the module: `place` counts the elements of its row.
    func value(of field: SystemField, _ place: Int) -> UInt64 {
        let pages = UInt64(4096)
        switch field {
        case .packages: return UInt64(platform.packages)
        case .packageSignatures: return place < platform.packages ? UInt64(platform.processor.signature) : 0
        case .vendor: return ModuleBuild.vendor
        case .buildDate: return ModuleBuild.date
        case .buildNumber: return ModuleBuild.number
        case .minorVersion: return ModuleBuild.minor
        case .majorVersion: return ModuleBuild.major
        case .updateVersion: return ModuleBuild.update
        case .internalVersion, .handoffVersion, .minimumUpdateVersion, .noDowngrade: return 0
        // The pages of the module's data region beyond the first: the model's handoff data fits in that one.
        case .handoffPages: return 0
        // No module handed anything to this one.
        case .handoffDataValid, .handoffDataVersion, .handoffDataSize: return 0
        case .attributes: return 0
        case .featureWords: return 1
        case .features: return ModuleFeatures.word0(isLate: isLate)
        case .convertibleRegions: return UInt64(ModuleLimits.convertibleRegions)
        case .convertibleBases:
            return place < platform.convertibleMemory.count ? platform.convertibleMemory[place].start.rawValue : 0
        case .convertibleSizes:
            return place < platform.convertibleMemory.count ? platform.convertibleMemory[place].size.rawValue : 0
        case .maximumTDMRs: return UInt64(ModuleLimits.tdmrs)
        case .maximumReserved: return UInt64(ModuleLimits.reservedAreas)
        case .pamtEntrySize4K, .pamtEntrySize2M, .pamtEntrySize1G: return UInt64(ModuleLimits.pamtEntrySize)
        case .tdrSize: return pages
        case .tdcsSize: return UInt64(ModuleLimits.minimumControlPages) * pages
        case .tdcsSizePerNestedVM: return pages
        case .tdvpsSize: return UInt64(ModuleLimits.minimumVCPUPages) * pages
        case .tdvpsSizePerNestedVM: return 3 * pages
        case .attributesFixed0: return TDParameters.allowedAttributes(platform.version)
        case .attributesFixed1: return 0
        case .xfamFixed0: return TDParameters.allowedXFAM & platform.processor.extendedStates
        case .xfamFixed1: return TDParameters.requiredXFAM
        case .cpuidConfigurations: return UInt64(CPUIDConfiguration.all.count)
        case .configFlagsFixed0: return TDParameters.allowedConfigFlags(platform.version)
        case .configFlagsFixed1: return 0
        case .maximumVCPUs: return 0xFFFF
        case .cpuidLeaves:
            guard place < CPUIDConfiguration.all.count else { return .max }
            let entry = CPUIDConfiguration.all[place]
            return UInt64(entry.leaf) | UInt64(entry.subleaf) << 32
        case .cpuidValues:
            guard place / 2 < CPUIDConfiguration.all.count else { return 0 }
            // Release 1.5.01 shows the bits that take any value; [late] those that can only be cleared as well.
            let entry = CPUIDConfiguration.all[place / 2]
            let mask = isLate ? configurableBits(entry) : entry.direct
            return place % 2 == 0 ? mask.low : mask.high
        case .archCapabilitiesMask: return TDParameters.archCapabilitiesMask
        case .allowedSignatureCount: return UInt64(platform.processor.allowedSignatures.count)
        case .disallowedSignatureCount, .disallowedSignatures: return 0
        case .allowedSignatures:
            let all = platform.processor.allowedSignatures
            return place < all.count ? UInt64(all[place]) : 0
        case .migrationAttributes, .minimumExportVersion, .maximumExportVersion, .minimumImportVersion,
            .maximumImportVersion:
            return 0
        case .migrationStreams: return 512
        case .immutableStatePages: return 3
        case .trustDomainStatePages: return 2
        case .vcpuStatePages: return 5
        case .serviceTDs: return 1
        case .serviceAttributesFixed0: return 0x0000_07FF_0000_0001
        case .serviceAttributesFixed1: return 0
        case .nestedPageAttributes: return 0x807F
        case .vmControlsFixed0: return 1
        case .nestedControlsFixed0: return 3
        case .nestedDebugControlsFixed0: return 7
        case .vmControlsFixed1, .nestedControlsFixed1, .nestedDebugControlsFixed1: return 0
        }
    }

    /// A field's element as a read shows it; nil when no field has the identifier, and 0 as status when the mask hides it.
    func readSystem(_ id: FieldID, _ access: MetadataAccess) -> MetadataResult {
        let table = systemFields
        guard id.namesOneElement, let index = table.row(of: id) else { return .refused(.metadataFieldIDIncorrect) }
        let row = table.rows[index]
        let mask = row.readMask(access)
        if mask == 0 { return .refused(.metadataFieldNotReadable) }
        guard let field = SystemField(rawValue: row.id.raw) else { return .refused(.metadataFieldIDIncorrect) }
        return .value(value(of: field, row.place(of: id)) & mask)
    }
}
