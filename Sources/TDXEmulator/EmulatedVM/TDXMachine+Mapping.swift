internal import KVM
internal import MemoryUnits
internal import SystemPackage
internal import TDXModule
internal import TDXStatusCodes

extension TDXMachine {
    /// What mapping one private page came to.
    enum MapResult {
        case mapped
        case alreadyMapped
        /// Another vCPU maps the page or a table above it, or the module was busy: try again.
        case retry
        case failed(KVMError)
    }

    /// How a page becomes the TD's.
    enum MapKind {
        /// MEM.PAGE.ADD with the contents of a host frame, before the TD is finalized.
        case add(source: HostPhysicalAddress)
        /// MEM.PAGE.AUG; the guest must accept.
        case augment
    }

    /// Gives the TD one private 4 KiB page: MEM.SEPT.ADD for each missing table, then MEM.PAGE.ADD or AUG.
    ///
    /// The caller holds the file's invalidate lock and `mmuLock`, each at least for reading, and has checked that `slot`
    /// maps the address to `file`.
    func mapPrivate(
        _ address: GuestPhysicalAddress, slot: SlotTable.Slot, file: GuestFile, kind: MapKind, name: String
    ) -> MapResult {
        guard let domain, hasKeyID else {
            return .failed(KVMError(name, .ioError, detail: "the TD has no key id"))
        }
        let frame = address.frame.rawValue
        let claim: MapResult? = mapLock.withLock {
            if mirror.isMapped(address) { return .alreadyMapped }
            return pagesBeingMapped.insert(frame).inserted ? nil : .retry
        }
        if let claim { return claim }
        defer { mapLock.withLock { _ = pagesBeingMapped.remove(frame) } }

        if let obstacle = addTables(for: address, domain, name: name) { return obstacle }
        let offset = slot.offset(of: address)
        guard let page = file.takeFrame(at: offset) else {
            return .failed(KVMError(name, .noMemory, detail: "the emulated host has no frame left"))
        }
        let leaf: SeamcallLeaf
        let result: Registers
        switch kind {
        case .add(let source):
            leaf = .memPageAdd
            result = seamcall(
                leaf, rcx: address.rawValue, rdx: domain.tdr.rawValue, r8: page.rawValue, r9: source.rawValue)
        case .augment:
            leaf = .memPageAug
            result = seamcall(leaf, rcx: address.rawValue, rdx: domain.tdr.rawValue, r8: page.rawValue)
        }
        guard result.status.isSuccess else {
            file.giveBackFrame(at: offset)
            return result.status.isBusy ? .retry : .failed(bugOn(name, leaf, result.status))
        }
        mapLock.withLock { mirror.setMapped(address) }
        return .mapped
    }

    /// Adds the tables that the page's walk lacks, the highest first. Nil when all are there.
    private func addTables(for address: GuestPhysicalAddress, _ domain: TrustDomain, name: String) -> MapResult? {
        let missing = mapLock.withLock { mirror.missingTables(for: address, rootLevel: domain.rootLevel) }
        for table in missing {
            let claimed: Bool? = mapLock.withLock {
                if mirror.hasTable(table) { return nil }
                return tablesBeingAdded.insert(table).inserted
            }
            guard let claimed else { continue }
            guard claimed else { return .retry }
            defer { mapLock.withLock { _ = tablesBeingAdded.remove(table) } }
            guard let page = host.frames.allocateControlPage() else {
                return .failed(KVMError(name, .noMemory, detail: "a Secure-EPT page"))
            }
            let result = seamcall(
                .memSeptAdd, rcx: table.address | table.level, rdx: domain.tdr.rawValue, r8: page.rawValue)
            guard result.status.isSuccess else {
                host.frames.freeControlPage(page)
                return result.status.isBusy ? .retry : .failed(bugOn(name, .memSeptAdd, result.status))
            }
            mapLock.withLock { mirror.addTable(table, page: page) }
        }
        return nil
    }

    /// Reads or writes a page of a file that the process cannot map, on the module's behalf, while the page is the TD's.
    ///
    /// The module cannot learn of a failure, so it ends the VM: the bytes would not be what the module believes.
    func copyPage(
        of file: GuestFile, at offset: ByteCount, _ direction: GuestCopier.Direction,
        _ page: UnsafeMutableRawBufferPointer
    ) {
        guard let place = file.address(of: offset) else {
            bugOn("private page copy", "file offset \(offset) is bound to no slot")
            return
        }
        do throws(KVMError) { try backing.copyPrivatePage(direction, place, page) } catch {
            bugOn("private page copy", "\(error)")
        }
    }

    // MARK: KVM_TDX_INIT_MEM_REGION

    /// One call over whole pages, all inside one "all locks" guard; returns when every page is added.
    func initializeMemory(
        _ vcpu: VCPUCore, from source: UnsafeRawBufferPointer, at address: GuestPhysicalAddress, measured: Bool
    ) throws(KVMError) {
        let command = TDXCommand.initializeMemoryRegion
        let name = command.rule.name
        try enter(name)
        try withAllLocks(name) { () throws(KVMError) in
            try command.checkState(state, vcpu: vcpu.state)
            let size = ByteCount(UInt64(source.count))
            guard let range = GuestPhysicalRange(validating: address, size: size), !range.isEmpty,
                range.isPageAligned, UInt(bitPattern: source.baseAddress) % UInt(pageSize) == 0,
                (address.rawValue | (range.end.rawValue - 1)) & domain!.sharedBit == 0
            else {
                throw KVMError(
                    name, .invalidArgument, detail: "\(size) at \(address) from \(UInt(bitPattern: source.baseAddress))"
                )
            }
            guard let bounce = host.frames.allocateHostPage() else { throw KVMError(name, .noMemory) }
            defer { host.frames.freeHostPage(bounce) }
            for page in 0..<size.pages.rawValue {
                let contents = UnsafeRawBufferPointer(
                    rebasing: source[Int(page * pageSize)..<Int((page + 1) * pageSize)])
                host.frames.withPage(of: bounce, count: contents.count, writes: true) { $0.copyMemory(from: contents) }
                try addPage(at: address + PageCount(page).bytes, bounce, measured: measured, name: name)
            }
        }
    }

    private func addPage(
        at address: GuestPhysicalAddress, _ source: HostPhysicalAddress, measured: Bool, name: String
    ) throws(KVMError) {
        func refuse(_ errno: Errno, _ detail: String) -> KVMError {
            KVMError(name, errno, detail: "\(address): \(detail)")
        }
        // slots_lock is held: slots and attributes stand still.
        guard let slot = slots.slot(containing: address), slot.isGuestMemory else {
            throw refuse(.invalidArgument, "no guest memory slot")
        }
        guard let file = slot.file else { throw refuse(.badAddress, "the guest memory is closed") }
        guard attributes.isPrivate(address) else { throw refuse(.invalidArgument, "the page is not private") }
        try file.invalidateLock.withWriteLock { () throws(KVMError) in
            try mmuLock.withReadLock { () throws(KVMError) in
                // The kernel repeats the mapping in place while the module is busy.
                mapping: while true {
                    switch mapPrivate(address, slot: slot, file: file, kind: .add(source: source), name: name) {
                    case .mapped: break mapping
                    case .alreadyMapped: throw refuse(.ioError, "the page is mapped already")
                    case .retry: continue mapping
                    case .failed(let error): throw error
                    }
                }
                if measured { try extend(address, name: name) }
            }
        }
    }

    /// MR.EXTEND over a page, 256 bytes a call.
    private func extend(_ address: GuestPhysicalAddress, name: String) throws(KVMError) {
        for chunk in stride(from: address.rawValue, to: address.rawValue + pageSize, by: 256) {
            let result = seamcall(.mrExtend, rcx: chunk, rdx: domain!.tdr.rawValue)
            guard result.status.isSuccess else { throw bugOn(name, .mrExtend, result.status) }
        }
    }
}
