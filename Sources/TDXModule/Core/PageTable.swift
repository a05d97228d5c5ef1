internal import MemoryUnits
internal import Synchronization

/// Secure-EPT tables: 512 entries of 8 bytes each, in slots of 4 KiB, and 16 bytes beside each table.
///
/// Hardware keeps tables in the pages that SEPT.ADD gave it; here those pages are only accounted for, and the entries
/// live in the module, so that a walk is arithmetic on one array.
struct SecureEPTTables: @unchecked Sendable {
    let slab: Slab
    private let headerMemory: ReservedMemory
    private let tables: AtomicWords
    private let headers: AtomicWords

    init() throws(PlatformError) {
        slab = try Slab(stride: 4096, capacity: 1 << 24)
        headerMemory = try ReservedMemory(byteCount: 16 << 24)
        tables = slab.base.assumingMemoryBound(to: Atomic<UInt64>.self)
        headers = headerMemory.words()
    }

    var residentBytes: Int { slab.residentBytes + headerMemory.residentBytes() }

    /// A new table whose 512 entries are `entry`, for the page at `address`.
    func make(address: UInt64, entry: UInt64) -> UInt64 {
        let slot = UInt64(slab.allocate())
        let first = self[slot]
        for index in 0..<512 { first.at(index).pointee.store(entry, ordering: .relaxed) }
        headers.at(Int(slot) * 2).pointee.store(address, ordering: .relaxed)
        headers.at(Int(slot) * 2 + 1).set(0)
        return slot
    }

    func free(_ slot: UInt64) { slab.free(Int(slot)) }

    /// The first entry of a table.
    @inline(__always) subscript(_ slot: UInt64) -> AtomicWords { tables + Int(truncatingIfNeeded: slot << 9) }
    /// The host-physical page that holds the table.
    func address(_ slot: UInt64) -> UInt64 { headers.at(Int(slot) * 2).get() }
    /// BEPOCH of that page.
    func blockEpoch(_ slot: UInt64) -> AtomicWords { headers + (Int(slot) * 2 + 1) }
}

extension UnsafeMutablePointer where Pointee == Atomic<UInt64> {
    /// The word `index` places further on. (An atomic cannot be copied, so a pointer stands for it.)
    @inline(__always) func at(_ index: Int) -> Self { self + index }
}

/// Where a walk of the Secure EPT ended.
struct Walk {
    var entry: AtomicWords
    var raw: UInt64
    var level: UInt64
}

extension TDXModule {
    /// Walks from the root to the entry of `level`; ends earlier at an entry that is not present, or at a leaf.
    @inline(__always) func walk(_ td: TD, _ gpa: UInt64, to level: UInt64, root: UInt64) -> Walk {
        var at = root
        var table = tables[td.pointee.rootTable.get()]
        while true {
            let entry = table.at(Int(truncatingIfNeeded: gpa >> (12 + 9 * at) & 511))
            let raw = entry.get()
            if at == level || raw & Entry.rights == 0 || Entry.isLeaf(raw) {
                return Walk(entry: entry, raw: raw, level: at)
            }
            table = tables[Entry.slot(raw)]
            at -= 1
        }
    }

    /// RCX and RDX as calls return them about an entry.
    @inline(never) func report(_ walk: Walk, _ registers: inout Registers) {
        let state = decode(walk.raw)
        registers.rcx = Entry.architectural(walk.raw, state)
        registers.rdx = walk.level | UInt64(state.publicValue) << 8
    }
}
