internal import KVM
internal import MemoryUnits
internal import Synchronization
internal import SystemPackage
internal import TDXModule
internal import TDXStatusCodes

extension TDXMachine {
    /// Takes every mapped private page of the range from the TD. The caller holds `mmuLock` for writing.
    ///
    /// In a live TD that is BLOCK → TRACK → kick → REMOVE → WBINVD per page, before FINALIZE without TRACK and kick; once
    /// the key id is released it is one RECLAIM per page. A failure is a KVM_BUG_ON, after which nothing more is removed.
    func zapPrivate(_ range: GuestPhysicalRange, name: String) {
        var next = range.start
        while let address = mirror.nextMapped(from: next, before: range.end) {
            guard removePage(address, name: name) else { return }
            next = address + ByteCount(pageSize)
        }
    }

    private func removePage(_ address: GuestPhysicalAddress, name: String) -> Bool {
        guard let domain, let slot = slots.slot(containing: address), let file = slot.file,
            let frame = file.frame(at: slot.offset(of: address))
        else {
            bugOn(name, "\(address) is mapped without guest memory")
            return false
        }
        let removed = hasKeyID ? removeLive(address, frame, domain, name: name) : reclaim(frame, name: name)
        guard removed else { return false }
        mapLock.withLock { mirror.clearMapped(address) }
        file.giveBackFrame(at: slot.offset(of: address))
        return true
    }

    private func removeLive(
        _ address: GuestPhysicalAddress, _ frame: HostPhysicalAddress, _ domain: TrustDomain, name: String
    ) -> Bool {
        let tdr = domain.tdr.rawValue
        guard zapCall(.memRangeBlock, rcx: address.rawValue, rdx: tdr, name: name) != nil else { return false }
        if state == .runnable {
            guard zapCall(.memTrack, rcx: tdr, name: name) != nil else { return false }
            kickVCPUs()
        }
        guard let removed = zapCall(.memPageRemove, rcx: address.rawValue, rdx: tdr, name: name) else { return false }
        guard removed.rcx == frame.rawValue else {
            bugOn(name, "PAGE.REMOVE gave frame 0x\(String(removed.rcx, radix: 16)) for \(frame)")
            return false
        }
        return zapCall(.phymemPageWbinvd, rcx: host.address(frame, with: domain.keyID), name: name) != nil
    }

    /// One call on the removing side. When the module is busy all vCPUs are forced out of the guest and kept out, and the
    /// call is made once more; a second failure is a KVM_BUG_ON. Source: reference/kvm.md §4.4.
    private func zapCall(_ leaf: SeamcallLeaf, rcx: UInt64, rdx: UInt64 = 0, name: String) -> Registers? {
        var result = seamcall(leaf, rcx: rcx, rdx: rdx)
        if result.status.isBusy {
            holdVCPUsOut()
            result = seamcall(leaf, rcx: rcx, rdx: rdx)
            letVCPUsIn()
        }
        guard result.status.isSuccess else {
            bugOn(name, leaf, result.status)
            return nil
        }
        return result
    }

    /// PHYMEM.PAGE.RECLAIM of a page of a TD whose key id is released.
    private func reclaim(_ page: HostPhysicalAddress, name: String) -> Bool {
        let result = seamcall(.phymemPageReclaim, rcx: page.rawValue)
        guard result.status.isSuccess else {
            bugOn(name, .phymemPageReclaim, result.status)
            return false
        }
        return true
    }

    // MARK: vCPUs out of the guest

    /// Forces every vCPU out of guest mode once, as the kernel's OUTSIDE_GUEST_MODE request does. `mmuLock` is held for
    /// writing. A step that a guest is in ends first.
    func kickVCPUs() {
        for vcpu in vcpus {
            vcpu.guestMode.leaveIfInside(.externalInterrupt)
        }
    }

    /// Forces every vCPU out and keeps them out until `letVCPUsIn` (the kernel's wait_for_sept_zap).
    func holdVCPUsOut() {
        zapsWaiting.wrappingAdd(1, ordering: .acquiringAndReleasing)
        kickVCPUs()
    }

    func letVCPUsIn() { zapsWaiting.wrappingSubtract(1, ordering: .acquiringAndReleasing) }

    // MARK: The end

    /// KVM_TDX_TERMINATE_VM as proposed: no vCPU may be inside KVM_RUN (EBUSY), the VM becomes dead, and the key id is
    /// released, so that pages leave by one RECLAIM each from now on. Source: reference/kvm.md §5.3.
    func terminate() throws(KVMError) {
        let name = TDXCommand.terminateVM.rule.name
        try enter(name)
        if host.configuration.terminate == .absent {
            // Unknown commands are refused inside the guard.
            try withAllLocks(name) { () throws(KVMError) in
                throw KVMError(name, .invalidArgument, detail: "this kernel has no such command")
            }
        }
        try kvmLock.withLock { () throws(KVMError) in
            if busyTerminations > 0 {
                busyTerminations -= 1
                throw KVMError(name, .resourceBusy, detail: "a vCPU is in use")
            }
            var held: [VCPUCore] = []
            defer { held.forEach { $0.mutex.unlock() } }
            for vcpu in vcpus {
                guard vcpu.mutex.tryLock() else {
                    throw KVMError(name, .resourceBusy, detail: "vCPU \(vcpu.id) is in use")
                }
                held.append(vcpu)
            }
            markDead()
        }
        mmuLock.withWriteLock { _ = releaseKeyID() }
    }

    /// VP.FLUSH of each vCPU, VPFLUSHDONE, CACHE.WB on each package, KEY.FREEID; then the key id is free again. False
    /// when the module refuses: the key id and all pages are then kept for good, as Linux does. As there, a vCPU that cannot be
    /// flushed and a cache that cannot be written back do not end the sequence, and "not flushed" is not a bug.
    @discardableResult
    func releaseKeyID() -> Bool {
        guard let domain, hasKeyID else { return true }
        let name = "TD teardown"
        for vcpu in vcpus where vcpu.mayBeAssociated {
            let flush = seamcall(.vpFlush, rcx: vcpu.guestMode.tdvpr!.rawValue, on: vcpu.processor)
            guard flush.status.isSuccess || flush.status.base == .vcpuNotAssociated else {
                bugOn(name, .vpFlush, flush.status)
                continue
            }
            vcpu.mayBeAssociated = false
        }
        let released = host.tdxLock.withLock { () -> Bool in
            let done = seamcall(.mngVpflushdone, rcx: domain.tdr.rawValue)
            guard done.status.isSuccess else {
                if done.status.base != .flushvpNotDone { bugOn(name, .mngVpflushdone, done.status) }
                return false
            }
            for package in 0..<host.configuration.packages { writeBackCaches(of: package) }
            let free = seamcall(.mngKeyFreeid, rcx: domain.tdr.rawValue)
            guard free.status.isSuccess else {
                bugOn(name, .mngKeyFreeid, free.status)
                return false
            }
            return true
        }
        guard released else { return false }
        hasKeyID = false
        host.keys.release(domain.keyID)
        return true
    }

    /// A failure is only warned of: the key id cannot be released then.
    private func writeBackCaches(of package: Int) {
        let processor = host.firstProcessor(of: package)
        var result = seamcall(.phymemCacheWb, rcx: 0, on: processor)
        for _ in 0..<10_000 where result.status.base == .interruptedResumable {
            result = seamcall(.phymemCacheWb, rcx: 1, on: processor)
        }
        guard result.status.isSuccess || result.status.base == .noHKIDReadyToWbcache else {
            warn("TD teardown: \(SeamcallLeaf.phymemCacheWb.name) ended with \(result.status)")
            return
        }
    }

    /// Reclaims, in this order, the vCPUs' pages, the Secure-EPT tables, the TDCS pages, and the TDR, whose lines are
    /// then written back under the module's own key.
    func reclaimControlPages() {
        guard let domain else { return }
        var pages: [HostPhysicalAddress] = []
        for vcpu in vcpus {
            pages += vcpu.controlPages
            if let tdvpr = vcpu.guestMode.tdvpr { pages.append(tdvpr) }
            vcpu.controlPages = []
            vcpu.guestMode.tdvpr = nil
        }
        pages += mirror.takeTables()
        pages += domain.controlPages + [domain.tdr]
        guard !hasKeyID else {
            leakedPages += UInt64(pages.count)
            return
        }
        for page in pages {
            // A page that the module will not give back stays its own.
            guard reclaim(page, name: "TD teardown") else {
                leakedPages += 1
                continue
            }
            if page == domain.tdr {
                let flush = seamcall(.phymemPageWbinvd, rcx: host.address(page, with: host.globalKeyID))
                if !flush.status.isSuccess { bugOn("TD teardown", .phymemPageWbinvd, flush.status) }
            }
            host.frames.freeControlPage(page)
        }
    }

    /// VM destruction: the last reference is gone, so no private page can be mapped any more.
    func destroy() {
        for vcpu in vcpus { vcpu.guest?.stop() }
        // No call is under way any more; the lock is for a reader of the evidence at this moment.
        mmuLock.withWriteLock {
            guard domain != nil else { return }
            if mirror.mappedPageCount > .zero {
                bugOn("VM destruction", "\(mirror.mappedPageCount) are still mapped")
                leakedPages += mirror.mappedPageCount.rawValue
            }
            releaseKeyID()
            reclaimControlPages()
            domain = nil
        }
        backing.close()
        keepInspection()
    }
}
