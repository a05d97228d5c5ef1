internal import Synchronization

extension TDXModule {
    /// Changes an entry below a large entry that the caller holds exclusively. A walker may have marked it for an
    /// instant before it sees the large entry's lock; it takes its mark back without waiting.
    private func overwrite(_ entry: AtomicWords, _ word: UInt64, second: UInt64) {
        while true {
            let old = entry.get()
            if old & Sharex.occupied == 0, entry.replace(old, by: old | Sharex.exclusive) { break }
        }
        entry.at(1).pointee.store(second, ordering: .relaxed)
        entry.set(word)
    }

    /// The 512 entries of the next smaller size below a large one.
    private func forEachChild(_ address: UInt64, _ size: Int, _ body: (AtomicWords) -> Void) {
        let first = pamt.entry(address, size - 1)
        for index in 0..<512 { body(first.at(index * 2)) }
    }

    /// Locks the entry that 512 smaller pages merge into (reference §5.3); nil when it, or one below, is held.
    func lockForMerging(_ address: UInt64, _ size: Int) -> LockedPage? {
        var page: LockedPage?
        if lockEntry(address, size, exclusive: true, into: &page) != nil { return nil }
        var isHeld = false
        forEachChild(address, size) { child in
            if child.get() & Sharex.occupied != 0 { isHeld = true }
        }
        if isHeld {
            unlock(page!)
            return nil
        }
        return page
    }

    /// Promote: the parent becomes a regular page of that owner, its children are free.
    func merge(_ parent: LockedPage, _ address: UInt64, owner: UInt64) {
        forEachChild(address, parent.size) { child in
            let word = child.get()
            overwrite(child, keepsStaleOwners ? word & ~(PageWord.typeMask | Sharex.mask) : 0, second: 0)
        }
        // BEPOCH of the large entry stays; with dynamic PAMT the word held the pages.
        unlock(parent, as: .regular, owner: owner, second: usesDynamicPAMT ? 0 : parent.entry.at(1).get())
    }

    /// Demote: 512 children become regular pages of the parent's owner, never blocked; the parent is free, or
    /// [late] holds the pair of PAMT pages.
    func split(_ parent: LockedPage, _ address: UInt64, pamtPages: (UInt64, UInt64)?) {
        let word = PageWord.make(.regular, owner: parent.owner)
        forEachChild(address, parent.size) { overwrite($0, word, second: 0) }
        if let pamtPages {
            setPAMTPages(parent.entry, pamtPages, count: 512)
        } else {
            free(parent)
        }
    }

    /// [late] A 2 MiB entry that refers to the pages of its 4 KiB entries (reference §5.4). Gives the lock back.
    func setPAMTPages(_ entry: AtomicWords, _ pages: (UInt64, UInt64), count: UInt64) {
        entry.at(1).pointee.store(count | (pages.1 >> 12) << 28, ordering: .relaxed)
        entry.set(UInt64(PageType.pamt.rawValue) << 16 | (pages.0 >> 12) << 28)
    }

    /// The pair of a 2 MiB entry.
    func pamtPages(_ entry: AtomicWords) -> (UInt64, UInt64) {
        ((entry.get() >> 28) << 12, (entry.at(1).get() >> 28) << 12)
    }
}
