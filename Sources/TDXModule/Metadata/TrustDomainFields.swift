internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

/// A field of TDR or TDCS, which MNG.RD, MNG.WR, TDG.VM.RD and TDG.VM.WR reach; the raw value is its published identifier.
enum TrustDomainField: UInt64, CaseIterable, Sendable {
    case fatal = 0x8010_0000_0000_0001
    case controlPageCount = 0x8010_0002_0000_0002
    case childCount = 0x8010_0003_0000_0004
    case lifecycle = 0x8010_0002_0000_0005
    case controlPages = 0x8010_0003_0000_0010
    case uuid = 0x8010_0003_0000_0020
    case keyID = 0x8110_0001_0000_0001
    case configuredPackages = 0x8110_0003_0000_0002
    case handoffVersion = 0x8210_0001_0000_0000
    case seamDatabaseIndex = 0x8210_0003_0000_0001
    case seamDatabaseNonce = 0x8210_0003_0000_0002
    case vcpus = 0x9010_0002_0000_0001
    case associatedVCPUs = 0x9010_0002_0000_0002
    case operationState = 0x9010_0002_0000_0004
    case nestedVMs = 0x9010_0001_0000_0005
    case attributes = 0x1110_0003_0000_0000
    case xfam = 0x1110_0003_0000_0001
    case maximumVCPUs = 0x1110_0002_0000_0002
    case isWide = 0x1110_0000_0000_0003
    case eptPointer = 0x1110_0003_0000_0004
    case tscOffset = 0x1110_0003_0000_000A
    case tscMultiplier = 0x1110_0003_0000_000B
    case tscFrequency = 0x1110_0001_0000_000C
    case virtualTSC = 0x1110_0003_0000_000D
    case cpuidCount = 0x9110_0001_0000_000E
    case stateBufferSize = 0x9110_0002_0000_000F
    case notifyEnables = 0x9110_0003_0000_0010
    case hostPriorityTimeout = 0x9110_0003_0000_0011
    case vmControls = 0x9110_0003_0000_0012
    case configFlags = 0x1110_0003_0000_0016
    case tdControls = 0x1110_0003_0000_0017
    case cpuidValid = 0x9110_0000_0000_0080
    case stateBufferOffsets = 0x9110_0002_0000_0800
    case epoch = 0x9210_0003_0000_0000
    case insideCounts = 0x9210_0001_0000_0001
    case mrtd = 0x1310_0003_0000_0000
    case mrConfigID = 0x1310_0003_0000_0010
    case mrOwner = 0x1310_0003_0000_0018
    case mrOwnerConfig = 0x1310_0003_0000_0020
    case rtmrs = 0x1310_0003_0000_0040
    case cpuidValues = 0x9410_0003_0000_0000
    case archCapabilities = 0x9610_0003_0000_010A
    case vmxBasic = 0x9610_0003_0000_0480
    case vmxMisc = 0x9610_0003_0000_0485
    case vmxCR0Fixed0 = 0x9610_0003_0000_0486
    case vmxCR0Fixed1 = 0x9610_0003_0000_0487
    case vmxCR4Fixed0 = 0x9610_0003_0000_0488
    case vmxCR4Fixed1 = 0x9610_0003_0000_0489
    case vmxProcessorControls2 = 0x9610_0003_0000_048B
    case vmxEPTCapabilities = 0x9610_0003_0000_048C
    case vmxPinControls = 0x9610_0003_0000_048D
    case vmxProcessorControls = 0x9610_0003_0000_048E
    case vmxExitControls = 0x9610_0003_0000_048F
    case vmxEntryControls = 0x9610_0003_0000_0490
    case vmxFunctions = 0x9610_0003_0000_0491
    case vmxProcessorControls3 = 0x9610_0003_0000_0492
    case vmxExitControls2 = 0x9610_0003_0000_0493
    case migrationKeySet = 0x9810_0000_0000_0001
    case exportCount = 0x9810_0002_0000_0002
    case importCount = 0x9810_0002_0000_0003
    case migrationEpoch = 0x9810_0002_0000_0004
    case blockedEpoch = 0x9810_0003_0000_0005
    case migrationBundles = 0x9810_0003_0000_0006
    case decryptionKey = 0x9810_0003_0000_0010
    case workingDecryptionKey = 0x9810_0003_0000_0014
    case encryptionKey = 0x9810_0003_0000_0018
    case workingEncryptionKey = 0x9810_0003_0000_001C
    case migrationVersion = 0x9810_0001_0000_0020
    case workingMigrationVersion = 0x9810_0001_0000_0021
    case dirtyCount = 0x9810_0003_0000_0030
    case migratedCount = 0x9810_0003_0000_0031
    case migrationStreams = 0x9810_0001_0000_0032
    case migratedVCPUs = 0x9810_0002_0000_0034
    case uuidBeforeImport = 0x9810_0003_0000_0040
    case serviceHash = 0x9910_0003_0000_0000
    case serviceCount = 0x9910_0001_0000_0006
    case serviceBindings = 0x9910_0003_0000_0080
    case streamLinks = 0x9A10_0003_0000_0000
    case msrBitmaps = 0x2010_0003_0000_0000
    case secureEPTRoot = 0x2110_0003_0000_0000

    /// The published rows, in the order in which one field follows another, without those of the three nested VMs (classes
    /// 0x25, 0x29, 0x2D), which a TD with NUM_L2_VMS = 0 has not.
    static let table = published.filtered { ![0x25, 0x29, 0x2D].contains($0.id.classCode) }

    /// All 83 published rows.
    static let published = MetadataTable(
        .trustDomain,
        """
        8010000000000001    1  1  all  -    all  -    -    -
        8010000200000002    1  1  all  -    all  -    -    -
        8010000300000004    1  1  all  -    all  -    -    -
        8010000200000005    1  1  all  -    all  -    -    -
        8010000300000010    9  1  all  -    all  -    -    -
        8010000300000020    1  4  all  -    all  -    all  -
        8110000100000001    1  1  all  -    all  -    -    -
        8110000300000002    1  1  all  -    all  -    -    -
        8210000100000000    1  1  all  -    all  -    -    -
        8210000300000001    1  1  all  -    all  -    -    -
        8210000300000002    1  4  -    -    -    -    -    -
        9010000200000001    1  1  all  -    all  -    all  -
        9010000200000002    1  1  all  -    all  -    -    -
        9010000200000004    1  1  all  -    all  -    -    -
        9010000100000005    1  1  all  -    all  -    all  -
        1110000300000000    1  1  all  -    all  -    all  -
        1110000300000001    1  1  all  -    all  -    all  -
        1110000200000002    1  1  all  -    all  -    all  -
        1110000000000003    1  1  all  -    all  -    all  -
        1110000300000004    1  1  all  -    all  -    -    -
        111000030000000A    1  1  all  -    all  -    -    -
        111000030000000B    1  1  all  -    all  -    -    -
        111000010000000C    1  1  all  -    all  -    all  -
        111000030000000D    1  1  -    -    -    -    -    -
        911000010000000E    1  1  all  -    all  -    -    -
        911000020000000F    1  1  all  -    all  -    -    -
        9110000300000010    1  1  -    -    all  1    1    1
        9110000300000011    1  1  all  all  all  all  -    -
        9110000300000012    4  1  all  1    all  1    -    -
        1110000300000016    1  1  all  -    all  -    all  -
        1110000300000017    1  1  -    -    all  -    all  1
        9110000000000080   80  1  -    -    all  -    -    -
        9110000200000800   19  1  all  -    all  -    -    -
        9210000300000000    1  1  all  -    all  -    -    -
        9210000100000001    2  1  all  -    all  -    -    -
        1310000300000000    1  6  all  -    all  -    all  -
        1310000300000010    1  6  all  -    all  -    all  -
        1310000300000018    1  6  all  -    all  -    all  -
        1310000300000020    1  6  all  -    all  -    all  -
        1310000300000040    4  6  -    -    all  -    all  -
        9410000300000000   80  2  all  -    all  -    -    -
        961000030000010A    1  1  -    -    all  -    -    -
        9610000300000480    1  1  -    -    all  -    -    -
        9610000300000485    1  1  -    -    all  -    -    -
        9610000300000486    1  1  -    -    all  -    -    -
        9610000300000487    1  1  -    -    all  -    -    -
        9610000300000488    1  1  -    -    all  -    -    -
        9610000300000489    1  1  -    -    all  -    -    -
        961000030000048B    1  1  -    -    all  -    -    -
        961000030000048C    1  1  -    -    all  -    -    -
        961000030000048D    1  1  -    -    all  -    -    -
        961000030000048E    1  1  -    -    all  -    -    -
        961000030000048F    1  1  -    -    all  -    -    -
        9610000300000490    1  1  -    -    all  -    -    -
        9610000300000491    1  1  -    -    all  -    -    -
        9610000300000492    1  1  -    -    all  -    -    -
        9610000300000493    1  1  -    -    all  -    -    -
        9810000000000001    1  1  all  -    all  -    -    -
        9810000200000002    1  1  all  -    all  -    -    -
        9810000200000003    1  1  all  -    all  -    -    -
        9810000200000004    1  1  all  -    all  -    -    -
        9810000300000005    1  1  all  -    all  -    -    -
        9810000300000006    1  1  all  -    all  -    -    -
        9810000300000010    1  4  -    -    all  -    -    -
        9810000300000014    1  4  -    -    all  -    -    -
        9810000300000018    1  4  -    -    all  -    -    -
        981000030000001C    1  4  -    -    all  -    -    -
        9810000100000020    1  1  all  -    all  -    -    -
        9810000100000021    1  1  all  -    all  -    -    -
        9810000300000030    1  1  all  -    all  -    -    -
        9810000300000031    1  1  all  -    all  -    -    -
        9810000100000032    1  1  all  -    all  -    -    -
        9810000200000034    1  1  all  -    all  -    -    -
        9810000300000040    1  4  all  -    all  -    all  -
        9910000300000000    1  6  all  -    all  -    all  -
        9910000100000006    1  1  all  -    all  -    all  -
        9910000300000080    1 16  all  -    all  -    all  -
        9A10000300000000  512  1  all  -    all  -    -    -
        2010000300000000  512  1  -    -    all  -    -    -
        2110000300000000  512  1  -    -    all  -    -    -
        2510000300000000  512  1  -    -    all  -    -    -
        2910000300000000  512  1  -    -    all  -    -    -
        2D10000300000000  512  1  -    -    all  -    -    -
        """)
}

extension TDXModule {
    /// A field's element, unmasked; nil when the model has no such state: what only a processor's VMX capabilities or a
    /// migration could give. `place` counts the elements of the row.
    func value(of field: TrustDomainField, _ place: Int, _ access: TDAccess) -> UInt64? {
        let td = access.td
        func context<Value>(_ body: (TDContext.Contents) -> Value) -> Value {
            td.details.contents.withLock { body($0) }
        }
        func word(_ body: (TDContext.Contents) -> [UInt8]) -> UInt64 {
            let bytes = context(body)
            return (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[8 * place + $1]) << (8 * UInt64($1)) }
        }
        switch field {
        case .fatal: return access.state.isFatal ? 1 : 0
        case .controlPageCount: return UInt64(access.state.tdcxCount)
        case .childCount: return td.pointee.children.get()
        case .lifecycle: return UInt64(access.state.lifecycle)
        case .controlPages:
            return context { place < $0.controlPages.count ? withKey($0.controlPages[place], access.state.key) : 0 }
        case .uuid: return word { $0.uuid }
        case .keyID: return UInt64(access.state.key)
        case .configuredPackages: return context { $0.packagesConfigured }
        case .handoffVersion: return ModuleBuild.handoffVersion
        case .seamDatabaseIndex, .seamDatabaseNonce: return 0
        case .vcpus: return td.pointee.vcpus.get() & TDBlock.vcpuMask
        case .associatedVCPUs: return td.pointee.vcpus.get() >> 32
        case .operationState: return UInt64(access.state.opState)
        case .nestedVMs: return 0
        case .attributes: return context { $0.parameters.attributes }
        case .xfam: return context { $0.parameters.xfam }
        case .maximumVCPUs: return context { UInt64($0.parameters.maxVCPUs) }
        case .isWide: return context { $0.parameters.isWide ? 1 : 0 }
        case .eptPointer: return eptPointer(td)
        case .tscOffset: return context { $0.tscOffset }
        case .tscMultiplier: return context { $0.tscMultiplier }
        case .tscFrequency: return context { UInt64($0.parameters.tscFrequency) }
        case .virtualTSC: return context { $0.virtualTSC(at: timeStampCounter()) }
        case .cpuidCount: return UInt64(CPUIDLookup.all.count)
        case .stateBufferSize: return ExtendedState.buffer(of: context { $0.parameters.xfam }, platform.processor).size
        case .stateBufferOffsets:
            return ExtendedState.buffer(of: context { $0.parameters.xfam }, platform.processor).offsets[place]
        case .notifyEnables: return context { $0.notifyEnables }
        case .hostPriorityTimeout: return context { $0.hostPriorityTimeout(platform.processor) }
        case .vmControls: return context { $0.vmControls[place] }
        case .configFlags: return context { $0.parameters.configFlags }
        case .tdControls: return context { $0.controls }
        case .cpuidValid: return place < CPUIDLookup.all.count && !CPUIDLookup.all[place].isFaulting ? 1 : 0
        case .epoch: return td.pointee.epoch.get()
        case .insideCounts: return insideCount(td, parity: UInt64(place))
        case .mrtd: return word { $0.mrtd }
        case .mrConfigID: return word { $0.parameters.mrConfigID }
        case .mrOwner: return word { $0.parameters.mrOwner }
        case .mrOwnerConfig: return word { $0.parameters.mrOwnerConfig }
        case .rtmrs: return word { $0.rtmrs.flatMap { $0 } }
        // Read by leaf and sub-leaf: `readTrustDomain`.
        case .cpuidValues: return nil
        case .archCapabilities: return context { $0.parameters.virtualArchCapabilities(platform.processor) }
        case .vmxBasic, .vmxMisc, .vmxCR0Fixed0, .vmxCR0Fixed1, .vmxCR4Fixed0, .vmxCR4Fixed1, .vmxProcessorControls2,
            .vmxEPTCapabilities, .vmxPinControls, .vmxProcessorControls, .vmxExitControls, .vmxEntryControls,
            .vmxFunctions, .vmxProcessorControls3, .vmxExitControls2, .msrBitmaps:
            return nil
        // No leaf of the model migrates: the counts are those of a TD that never did, and it has no keys.
        case .migrationKeySet, .exportCount, .importCount, .migrationEpoch, .blockedEpoch, .migrationBundles,
            .migrationVersion, .workingMigrationVersion, .dirtyCount, .migratedCount, .migrationStreams, .migratedVCPUs,
            .uuidBeforeImport, .streamLinks:
            return 0
        case .decryptionKey, .workingDecryptionKey, .encryptionKey, .workingEncryptionKey: return nil
        case .serviceHash: return word { $0.serviceHash }
        // No leaf of the model binds a service TD.
        case .serviceCount, .serviceBindings: return 0
        case .secureEPTRoot: return rootEntry(td, place)
        }
    }

    /// A page's address with the TD's key id, as control structures hold it.
    func withKey(_ address: UInt64, _ key: UInt16) -> UInt64 {
        address | UInt64(key) << (52 - UInt64(platform.keyIDBits))
    }

    /// The Secure EPT's root page, without a key id, and the controls of TD_PARAMS.
    func eptPointer(_ td: TD) -> UInt64 {
        tables.address(td.pointee.rootTable.get()) | td.details.contents.withLock { $0.parameters.eptpControls }
    }

    private func rootEntry(_ td: TD, _ place: Int) -> UInt64 {
        let raw = tables[td.pointee.rootTable.get()].at(place).get()
        let state = decode(raw)
        guard state == .tableMapped || state == .tableBlocked else { return raw }
        return raw & ~Entry.addressMask | tables.address(Entry.slot(raw))
    }

    /// A field's element as a read shows it.
    func readTrustDomain(_ id: FieldID, _ reader: MetadataAccess, _ access: TDAccess) -> MetadataResult {
        let table = TrustDomainField.table
        guard id.namesOneElement, let index = table.row(of: id) else { return .refused(.metadataFieldIDIncorrect) }
        let row = table.rows[index]
        guard let field = TrustDomainField(rawValue: row.id.raw) else { return .refused(.metadataFieldIDIncorrect) }
        if field == .cpuidValues {
            switch cpuidValue(id, access) {
            case .refused(let status): return .refused(status)
            case .value(let value): return visible(value, row, reader)
            }
        }
        guard row.readMask(reader) != 0, let value = value(of: field, row.place(of: id), access) else {
            return .refused(.metadataFieldNotReadable)
        }
        return visible(value, row, reader)
    }

    private func visible(_ value: UInt64, _ row: MetadataRow, _ reader: MetadataAccess) -> MetadataResult {
        let mask = row.readMask(reader)
        return mask == 0 ? .refused(.metadataFieldNotReadable) : .value(value & mask)
    }

    private func cpuidValue(_ id: FieldID, _ access: TDAccess) -> MetadataResult {
        guard !id.hasReservedCPUIDBits, let place = CPUIDLookup.place(id.cpuidLeaf, id.cpuidSubleaf) else {
            return .refused(.metadataFieldIDIncorrect)
        }
        if CPUIDLookup.all[place].isFaulting { return .refused(.metadataFieldNotReadable) }
        let words = access.td.details.contents.withLock { $0.parameters.cpuid.values[place] }
        return .value(id.cpuidElement == 0 ? words.low : words.high)
    }

    /// Writes `value` under `mask`; the result is the former value as the writer may read it.
    func writeTrustDomain(
        _ id: FieldID, _ value: UInt64, mask: UInt64, _ writer: MetadataAccess, _ access: TDAccess
    ) -> MetadataResult {
        let table = TrustDomainField.table
        guard id.namesOneElement, let index = table.row(of: id) else { return .refused(.metadataFieldIDIncorrect) }
        let row = table.rows[index]
        guard let field = TrustDomainField(rawValue: row.id.raw) else { return .refused(.metadataFieldIDIncorrect) }
        if field == .cpuidValues, case .refused(let status) = cpuidValue(id, access) { return .refused(status) }
        let writable = row.writeMask(writer) & mask
        if writable == 0 { return .refused(.metadataFieldNotWritable) }
        guard let old = self.value(of: field, row.place(of: id), access) else {
            return .refused(.metadataFieldNotWritable)
        }
        let forbidden = mask & ~row.writeMask(writer)
        if old & forbidden != value & forbidden { return .refused(.metadataFieldValueNotValid) }
        let new = old & ~writable | value & writable
        let context = access.td.details
        let place = row.place(of: id)
        switch field {
        case .hostPriorityTimeout:
            if writable != .max { return .refused(.metadataWrMaskNotValid) }
            guard TDContext.Contents.hostPriorityTimeouts.contains(new) else {
                return .refused(.metadataFieldValueNotValid)
            }
            context.contents.withLock { $0.setHostPriorityTimeout(new, platform.processor) }
        case .vmControls: context.contents.withLock { $0.vmControls[place] = new }
        case .notifyEnables: context.contents.withLock { $0.notifyEnables = new }
        case .tdControls:
            let isFlexible = context.contents.withLock { $0.parameters.hasFlexiblePendingVE }
            if writer == .guest, !isFlexible, (old ^ new) & TDContext.Contents.pendingVEDisable != 0 {
                return .refused(.metadataFieldValueNotValid)
            }
            context.contents.withLock { $0.controls = new }
        default:
            // Writable by service TDs alone, which the model has not.
            return .refused(.metadataFieldNotWritable)
        }
        return .value(old & row.readMask(writer))
    }
}
