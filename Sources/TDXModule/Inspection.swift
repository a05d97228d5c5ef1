public import MemoryUnits
internal import Synchronization

/// What kind of object a 4 KiB page is to the module (reference §5.1).
@frozen
public enum PageType: UInt8, Hashable, Sendable {
    /// Not directly assigned: free for the host.
    case free = 0
    case reserved = 1
    /// A trust domain's memory.
    case regular = 3
    case tdr = 4
    case tdcx = 5
    case tdvpr = 6
    /// A Secure-EPT table.
    case ept = 8
    /// [late] A 2 MiB range whose 4 KiB metadata lives in a pair of PAMT pages.
    case pamt = 15
}

/// The state of a key id (reference §4.1).
@frozen
public enum KeyState: UInt8, Hashable, Sendable {
    case free = 0
    case assigned = 1
    case flushed = 2
    case reserved = 3
}

/// A physical page as the PAMT has it.
public struct PageMetadata: Hashable, Sendable {
    public var type: PageType
    /// The owner's TDR page. A free page may show a former owner (release 1.5.01).
    public var owner: HostPhysicalAddress
    /// 0 for 4 KiB, 1 for 2 MiB, 2 for 1 GiB: the size of the entry that covers the page.
    public var size: Int
    /// The epoch of the last block.
    public var blockEpoch: UInt64
}

/// A Secure-EPT entry as a walk finds it.
public struct SecureEPTEntry: Hashable, Sendable {
    public var state: EntryState
    /// 0 … 4; above what was asked for where the walk ended early.
    public var level: Int
    /// The page or table that the entry refers to; nil for free and removed entries.
    public var address: HostPhysicalAddress?
    /// Chunks of a pending 2 MiB page that the guest has accepted.
    public var acceptedChunks: Int
    public var isLocked: Bool
    public var hasHostPriority: Bool
}

/// A trust domain as TDR and TDCS have it.
public struct TrustDomainState: Hashable, Sendable {
    public var lifecycle: Lifecycle
    public var isFatal: Bool
    public var operationState: OperationState
    public var keyID: KeyID
    /// CHLDCNT: pages that belong to it, in units of 4 KiB, without TDR.
    public var childCount: UInt64
    public var controlPages: Int
    public var vcpus: Int
    /// vCPUs that a logical processor may hold state of.
    public var associatedVCPUs: Int
    public var epoch: UInt64
    /// vCPUs inside the guest that entered in an even and in an odd epoch.
    public var insideEven: Int
    public var insideOdd: Int
    /// 48 bytes; zeros before MR.FINALIZE.
    public var mrtd: [UInt8]
    /// Four times 48 bytes.
    public var rtmrs: [[UInt8]]
}

/// Looking without touching: nothing here takes a lock that a call could meet. What several threads change at this
/// moment is seen as it is at some point in between.
extension TDXModule {
    /// The metadata of a page; nil outside initialised TDMR blocks.
    public func metadata(of page: HostPhysicalAddress) -> PageMetadata? {
        let address = page.rawValue & ~0xFFF
        guard pamt.isInitialized(address) else { return nil }
        for size in [PageSizeCode.huge, PageSizeCode.large, PageSizeCode.small] {
            let entry = pamt.entry(address, size)
            let word = entry.get()
            let type = PageType(rawValue: UInt8(PageWord.type(word)))
            guard size == PageSizeCode.small || type == .regular else { continue }
            guard let type else { return nil }
            let second = entry.at(1).get()
            let epoch: UInt64 =
                switch type {
                case .regular: second
                case .ept: tables.blockEpoch(second).get()
                default: 0
                }
            return PageMetadata(
                type: type, owner: HostPhysicalAddress(PageWord.owner(word)), size: size, blockEpoch: epoch)
        }
        return nil
    }

    /// The state of a key id; nil outside the private ones.
    public func keyState(_ key: KeyID) -> KeyState? {
        guard platform.privateKeyIDs.contains(key.rawValue) else { return nil }
        return keys.withLock { $0[Int(key.rawValue)].state }
    }

    /// Packages whose caches were not written back since the key was flushed, bit per package.
    public func writeBackBitmap(_ key: KeyID) -> UInt32 { keys.withLock { $0[Int(key.rawValue)].writeBackBitmap } }

    /// The trust domain with that TDR page; nil when the page is none.
    public func trustDomain(_ tdr: HostPhysicalAddress) -> TrustDomainState? {
        guard let td = findTD(tdr.rawValue) else { return nil }
        let state = TDState(td.pointee.state.get())
        let vcpus = td.pointee.vcpus.get()
        let inside = td.pointee.inside.get()
        let (mrtd, rtmrs) = td.details.contents.withLock { ($0.mrtd, $0.rtmrs) }
        return TrustDomainState(
            lifecycle: Lifecycle(rawValue: state.lifecycle)!, isFatal: state.isFatal,
            operationState: OperationState(rawValue: state.opState)!, keyID: KeyID(state.key),
            childCount: td.pointee.children.get(), controlPages: state.tdcxCount, vcpus: Int(vcpus & 0xFFFF_FFFF),
            associatedVCPUs: Int(vcpus >> 32), epoch: td.pointee.epoch.get(), insideEven: Int(inside & 0xFFFF_FFFF),
            insideOdd: Int(inside >> 32), mrtd: mrtd, rtmrs: rtmrs)
    }

    /// MRTD of the trust domain with that TDR page, 48 bytes, zeros before MR.FINALIZE; nil when the page is none.
    public func mrtd(of tdr: HostPhysicalAddress) -> [UInt8]? { trustDomain(tdr)?.mrtd }

    /// Where a walk of a trust domain's Secure EPT for a private address ends; nil when the page is not a TDR, or the
    /// trust domain is not initialised.
    public func entry(
        _ address: GuestPhysicalAddress, level: Int = 0, of tdr: HostPhysicalAddress
    ) -> SecureEPTEntry? {
        guard let td = findTD(tdr.rawValue), td.pointee.rootTable.get() != 0 else { return nil }
        let state = TDState(td.pointee.state.get())
        guard state.rootLevel != 0, address.rawValue & td.pointee.forbiddenGPABits.get() == 0 else { return nil }
        let found = walk(td, address.rawValue, to: UInt64(level), root: state.rootLevel)
        let entryState = decode(found.raw)
        let size = (UInt64(1) << (12 + 9 * found.level)) - 1
        let host: HostPhysicalAddress? =
            switch entryState {
            case .free, .removed: nil
            case .tableMapped, .tableBlocked: HostPhysicalAddress(tables.address(Entry.slot(found.raw)))
            default: HostPhysicalAddress(Entry.address(found.raw) & ~size)
            }
        return SecureEPTEntry(
            state: entryState, level: Int(found.level), address: host,
            acceptedChunks: Entry.isLeaf(found.raw) && found.level == 1 && found.raw & Entry.pending != 0
                ? Int(found.raw >> Entry.acceptCounterShift & 0x1FF) : 0,
            isLocked: found.raw & Entry.lock != 0, hasHostPriority: found.raw & Entry.hostPriority != 0)
    }

    /// Trust domains and Secure-EPT tables (roots included) that exist, and vCPUs.
    public var population: (trustDomains: Int, vcpus: Int, tables: Int) {
        (tdSlab.used, vcpuSlab.used, tables.slab.used)
    }

    /// Memory that the module's metadata takes from the machine now: PAMT, Secure-EPT tables, trust domains, vCPUs.
    ///
    /// - Complexity: linear in the address space that the platform describes; some milliseconds for 64 TiB.
    public var residentMetadata: ByteCount {
        let all = [
            pamt.residentBytes, backing.residentBytes, tables.residentBytes, tdSlab.residentBytes,
            vcpuSlab.residentBytes,
        ]
        return ByteCount(UInt64(all.reduce(0, +)))
    }

    /// The block of a TDR page.
    func findTD(_ address: UInt64) -> TD? {
        guard address & pamt.invalidBits == 0, pamt.isInitialized(address) else { return nil }
        let entry = pamt.entry(address, PageSizeCode.small)
        guard PageWord.type(entry.get()) == UInt64(PageType.tdr.rawValue) else { return nil }
        return tdBlock(entry.at(1).get())
    }

    /// Gives back what is kept for trust domains and vCPUs that still exist when the module goes.
    func releaseContexts() {
        for slot in 1..<tdSlab.highWater { discardContext(tdBlock(UInt64(slot))) }
        for slot in 1..<vcpuSlab.highWater { discardVCPU(vcpuBlock(UInt64(slot))) }
    }
}
