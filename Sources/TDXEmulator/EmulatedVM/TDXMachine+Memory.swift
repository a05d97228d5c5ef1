internal import KVM
internal import MemoryUnits
internal import SystemPackage
internal import TDXModule

extension TDXMachine {
    // MARK: Memslots

    /// KVM_SET_USER_MEMORY_REGION2. `file` is the private side that the slot names, resolved.
    func setMemorySlot(_ request: MemorySlot, file: GuestFile?, isClosed: Bool) throws(KVMError) {
        let name = "KVM_SET_USER_MEMORY_REGION2"
        try enter(name)
        let isDeletion = try slotsLock.withLock { () throws(KVMError) -> Bool in
            let change: SlotTable.Change
            do throws(Errno) {
                change = try slots.check(
                    request, file: file, isClosed: isClosed, machine: self, sharedBit: domain?.sharedBit)
            } catch {
                throw KVMError(name, error, detail: "slot \(request.id): \(request.range)")
            }
            switch change {
            case .none: return false
            case .delete: return true
            case .create, .move, .flags: break
            }
            var real = request
            real.guestMemory = file?.real
            try backing.setMemorySlot(real)
            let slot = SlotTable.Slot(
                id: request.id, range: request.range, userspaceAddress: request.userspaceAddress, file: file,
                isGuestMemory: file != nil, fileOffset: request.guestMemoryOffset, flags: request.flags)
            mmuLock.withWriteLock {
                slots.insert(slot)
                file?.bind(slot)
            }
            return false
        }
        if isDeletion { try deleteMemorySlot(request.id) }
    }

    /// KVM_SET_USER_MEMORY_REGION2 with size 0: takes the slot's private pages from the TD, then the slot away.
    func deleteMemorySlot(_ id: UInt32) throws(KVMError) {
        let name = "KVM_SET_USER_MEMORY_REGION2"
        try enter(name)
        try slotsLock.withLock { () throws(KVMError) in
            guard let slot = slots[id] else {
                throw KVMError(name, .invalidArgument, detail: "there is no slot \(id)")
            }
            // The TD's pages go first; from then on faults wait until the slot is gone.
            mmuLock.withWriteLock {
                slots.setInvalid(id, true)
                if slot.isGuestMemory { zapPrivate(slot.range, name: name) }
            }
            do throws(KVMError) { try backing.deleteMemorySlot(id) } catch {
                mmuLock.withWriteLock { slots.setInvalid(id, false) }
                throw error
            }
            mmuLock.withWriteLock {
                slots.remove(id)
                slot.file?.unbind(id)
            }
        }
    }

    // MARK: Attributes

    /// KVM_SET_MEMORY_ATTRIBUTES.
    func setMemoryAttributes(_ range: GuestPhysicalRange, isPrivate: Bool) throws(KVMError) {
        let name = "KVM_SET_MEMORY_ATTRIBUTES"
        try enter(name)
        guard !range.isEmpty, range.isPageAligned else {
            throw KVMError(name, .invalidArgument, detail: "\(range)")
        }
        try slotsLock.withLock { () throws(KVMError) in
            if attributes.isUniform(range, isPrivate: isPrivate) { return }
            try backing.setMemoryAttributes(range, isPrivate: isPrivate)
            mmuLock.withWriteLock {
                if !isPrivate { zapPrivate(range, name: name) }
                attributes.set(range, isPrivate: isPrivate)
            }
        }
    }

    // MARK: Guest memory files

    /// KVM_CREATE_GUEST_MEMFD. A TDX VM supports MMAP only (reference/kvm.md §1.4).
    func createFile(size: ByteCount, flags: GuestMemoryFlags) throws(KVMError) -> GuestFile {
        let name = "KVM_CREATE_GUEST_MEMFD"
        try enter(name)
        guard flags.isSubset(of: .mmap) else {
            throw KVMError(name, .invalidArgument, detail: "flags \(flags.rawValue) on a TDX VM")
        }
        guard size != .zero, size.rawValue <= UInt64(Int64.max), size.isPageAligned else {
            throw KVMError(name, .invalidArgument, detail: "size \(size)")
        }
        let real = try backing.createMemory(size: size)
        retain()
        return GuestFile(machine: self, size: size, real: real, isMappable: flags.contains(.mmap))
    }

    /// fallocate(PUNCH_HOLE): takes the range's bound pages from the TD, then frees them. No ioctl: works from anywhere
    /// and for a dead VM.
    func punch(_ file: GuestFile, _ range: FileRange) throws(KVMError) {
        let name = "fallocate(PUNCH_HOLE)"
        guard range.offset.isPageAligned, range.length.isPageAligned, range.length != .zero,
            range.length.rawValue <= UInt64(Int64.max),
            range.offset.rawValue <= UInt64(Int64.max) - range.length.rawValue
        else { return try file.real.punchHole(range) }
        try file.invalidateLock.withWriteLock { () throws(KVMError) in
            // Without a slot nothing can be mapped, nor become so while pages are kept out: no lock of the MMU then.
            if file.isBound(range) {
                mmuLock.withWriteLock {
                    for piece in slots.pieces(of: file, offset: range.offset, length: range.length) {
                        zapPrivate(piece, name: name)
                    }
                }
            }
            file.dropMappings(range)
            try file.real.punchHole(range)
        }
    }

    /// The last reference to a file went: slots that it is bound to stay, without memory.
    func releaseFile(_ file: GuestFile) {
        slotsLock.withLock {
            file.invalidateLock.withWriteLock {
                mmuLock.withWriteLock {
                    for piece in slots.pieces(of: file, offset: .zero, length: file.size) {
                        zapPrivate(piece, name: "guest_memfd release")
                    }
                    slots.detach(file)
                }
            }
        }
    }

    // MARK: Pre-fault

    /// KVM_PRE_FAULT_MEMORY over a range; resumes where it must be repeated.
    func preFault(_ range: GuestPhysicalRange) throws(KVMError) {
        let name = "KVM_PRE_FAULT_MEMORY"
        try enter(name)
        guard !range.isEmpty, range.isPageAligned else {
            throw KVMError(name, .invalidArgument, detail: "\(range)")
        }
        var address = range.start
        while address < range.end {
            guard host.configuration.preFaults else {
                throw KVMError(name, .notSupportedOnSocket, detail: "this kernel cannot")
            }
            guard preFaultAllowed else {
                throw KVMError(name, .notSupportedOnSocket, detail: "the TD is not finalized")
            }
            guard address.rawValue & domain!.sharedBit == 0 else {
                throw KVMError(name, .invalidArgument, detail: "\(address) carries the shared bit")
            }
            try enter(name)
            switch faultPrivate(address, name: name) {
            case .mapped, .alreadyMapped: address = address + ByteCount(pageSize)
            case .retry: continue
            case .noSlot: throw KVMError(name, .noSuchFileOrDirectory, detail: "\(address) has no slot")
            case .shared:
                // A shared page is mapped from the slot's userspace address, which needs nothing of the module.
                address = address + ByteCount(pageSize)
            case .noGuestMemory: throw KVMError(name, .badAddress, detail: "\(address) has no guest memory")
            case .failed(let error): throw error
            }
        }
    }

    /// What a fault on a guest page came to.
    enum FaultResult {
        case mapped, alreadyMapped, retry
        /// No slot maps the address; it is private or shared by its attribute.
        case noSlot
        /// The page's attribute is shared.
        case shared
        /// The page is private, but its slot has no guest memory, or that is closed.
        case noGuestMemory
        case failed(KVMError)
    }

    /// A fault on a private page: the file's page is allocated, tables are added, PAGE.AUG.
    func faultPrivate(_ address: GuestPhysicalAddress, name: String) -> FaultResult {
        let first: (slot: SlotTable.Slot?, isPrivate: Bool) = mmuLock.withReadLock {
            (slots.slot(containing: address), attributes.isPrivate(address))
        }
        guard let slot = first.slot else { return first.isPrivate ? .noGuestMemory : .noSlot }
        if slot.isInvalid { return .retry }
        guard first.isPrivate else { return .shared }
        guard let file = slot.file else { return .noGuestMemory }
        return file.invalidateLock.withReadLock {
            let offset = slot.offset(of: address)
            do throws(KVMError) {
                try file.real.allocate(FileRange(offset: offset, length: ByteCount(pageSize)))
            } catch {
                return .failed(error)
            }
            return mmuLock.withReadLock {
                // What was looked up without the file's lock may have changed meanwhile.
                guard let now = slots.slot(containing: address), !now.isInvalid, now.id == slot.id, now.file === file,
                    now.offset(of: address) == offset, attributes.isPrivate(address)
                else { return .retry }
                switch mapPrivate(address, slot: now, file: file, kind: .augment, name: name) {
                case .mapped: return .mapped
                case .alreadyMapped: return .alreadyMapped
                case .retry: return .retry
                case .failed(let error): return .failed(error)
                }
            }
        }
    }
}
