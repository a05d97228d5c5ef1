internal import Synchronization
internal import TDXStatusCodes

/// A Secure-EPT entry whose lock bit a call of the host has set.
struct LockedEntry {
    var entry: AtomicWords

    /// Gives the entry back with a new value; a host that asked for priority meanwhile keeps it.
    func release(_ value: UInt64) {
        let unlocked = value & ~(Entry.lock | Entry.hostPriority)
        var old = entry.get()
        while !entry.replace(old, by: unlocked | old & Entry.hostPriority) { old = entry.get() }
    }
}

extension TDXModule {
    /// The host's lock of an entry (reference §7.3). When another holds it, host priority is set, RCX and RDX describe
    /// the entry, and the result is nil. A success clears host priority.
    func lockEntry(_ walk: Walk, _ r: inout Registers) -> LockedEntry? {
        let raw = walk.raw
        if raw & Entry.lock == 0, walk.entry.replace(raw, by: raw & ~Entry.hostPriority | Entry.lock) {
            return LockedEntry(entry: walk.entry)
        }
        askForPriority(walk, &r)
        return nil
    }

    /// Sets host priority on an entry that another call holds, and reports it.
    @inline(never) func askForPriority(_ walk: Walk, _ r: inout Registers) {
        walk.entry.pointee.bitwiseOr(Entry.hostPriority, ordering: .acquiringAndReleasing)
        report(walk, &r)
    }

    /// Lock, change and unlock in one step, for calls that do nothing in between. False when another call holds the
    /// entry or changed it since the walk, which then held it: host priority is set and RCX, RDX describe the entry.
    @inline(__always) func commit(_ walk: Walk, _ value: UInt64, _ r: inout Registers) -> Bool {
        if walk.raw & Entry.lock == 0, walk.entry.replace(walk.raw, by: value) { return true }
        askForPriority(walk, &r)
        return false
    }
}
