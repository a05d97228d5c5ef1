internal import ControlInterface
internal import MemoryUnits

/// What a TD takes of this host's memory at worst. Asked before anything is allocated, because a control group's limit answers
/// with the OOM killer, not with an error (reference: kvm.md §2.6).
struct MemoryDemand: Hashable, Sendable {
    /// RAM and firmware.
    let guest: ByteCount
    /// A conversion under way: one chunk may be there on both sides until its old side is discarded.
    let conversion: ByteCount
    /// What the kernel keeps of each page: the file's page cache, KVM's attributes, page tables.
    let tables: ByteCount
    /// What the software module keeps of each page. Hardware has set its own aside at boot, 1/256 of all memory.
    let module: ByteCount

    init(guest: ByteCount, on backend: Backend) {
        self.guest = guest
        conversion = min(guest, HolderInterface.Convert.chunk)
        tables = Self.cost(of: guest, bytesPerPage: Self.tableBytes(backend))
        module = Self.cost(of: guest, bytesPerPage: Self.moduleBytes(backend))
    }

    var total: ByteCount { Self.sum([guest, conversion, tables, module]) }

    /// What it may still take. One conversion is always among it: between two the guest's memory may all be there.
    func rest(after holding: Holding) -> ByteCount {
        switch holding {
        case .charged(let charged): return charged < total ? max(total - charged, conversion) : conversion
        case .resident(let resident):
            guard resident < guest else { return conversion }
            let share = { (part: ByteCount) in
                let (high, low) = part.rawValue.multipliedFullWidth(by: (guest - resident).rawValue)
                return ByteCount(guest.rawValue.dividingFullWidth((high, low)).quotient)
            }
            return Self.sum([guest - resident, conversion, share(tables), share(module)])
        }
    }

    // MARK: Figures

    /// Bytes a page, at worst. A tree node of the page cache, and of KVM's attributes, is 576 bytes for 64 pages (reference:
    /// kvm.md §3); a page table's entry 8, and the TDX module's table has a mirror in KVM.
    private static func tableBytes(_ backend: Backend) -> UInt64 {
        let node: UInt64 = 9
        return switch backend {
        case .tdx: node + node + 2 * 8
        case .softwareProtected: node + node + 8
        case .guestMemfd, .memfd: node + 8
        }
    }

    /// Bytes a page: a holder grows by 33 MB for a TD of 4 GiB whose memory is all mapped (RssAnon, release build,
    /// backend guest_memfd).
    private static func moduleBytes(_ backend: Backend) -> UInt64 { backend.isEmulated ? 32 : 0 }

    // MARK: Arithmetic

    /// Saturating: what does not fit 64 bits is refused like anything else that is too large.
    private static func cost(of guest: ByteCount, bytesPerPage: UInt64) -> ByteCount {
        let (value, overflow) = guest.pages.rawValue.multipliedReportingOverflow(by: bytesPerPage)
        return overflow ? ByteCount(.max) : ByteCount(value)
    }

    static func sum(_ parts: [ByteCount]) -> ByteCount {
        parts.reduce(.zero) { sum, part in
            let (value, overflow) = sum.rawValue.addingReportingOverflow(part.rawValue)
            return overflow ? ByteCount(.max) : ByteCount(value)
        }
    }
}

/// What a TD has taken so far.
enum Holding: Hashable, Sendable {
    /// Everything that is charged to its control group.
    case charged(ByteCount)
    /// Guest memory that is there.
    case resident(ByteCount)
}
