internal import KVM
internal import MemoryUnits
internal import SystemPackage

/// The memslots of an emulated VM, and KVM_SET_USER_MEMORY_REGION2's checks in the kernel's order with its errnos.
/// Source: reference/kvm.md §1.4. Not thread-safe: slots_lock orders everything.
struct SlotTable {
    /// KVM_CAP_NR_MEMSLOTS
    static let capacity: UInt32 = 32764
    private static let maximumPages: UInt64 = (1 << 31) - 1
    private static let endOfUserSpace: UInt = (1 << 47) - 4096

    struct Slot {
        var id: UInt32
        var range: GuestPhysicalRange
        var userspaceAddress: UInt
        /// The private side. Becomes nil, with `isGuestMemory` still set, when the file is closed under the slot.
        var file: GuestFile?
        var isGuestMemory: Bool
        var fileOffset: ByteCount
        var flags: MemorySlot.Flags
        /// The slot is being deleted: faults on it wait (the kernel's KVM_MEMSLOT_INVALID).
        var isInvalid = false

        func contains(_ address: GuestPhysicalAddress) -> Bool { range.contains(address) }

        /// Where in the file the page of `address` lies.
        func offset(of address: GuestPhysicalAddress) -> ByteCount { fileOffset + (address - range.start) }
    }

    enum Change {
        case create
        case move(from: GuestPhysicalRange)
        case flags
        case none
        case delete
    }

    private var slots: [UInt32: Slot] = [:]
    /// Sorted by start address; slots never overlap.
    private var order: [Slot] = []

    /// Checks a create, move or change. `file` is the resolved private side of `request`.
    ///
    /// - Parameters:
    ///   - file: nil when the slot has none, or when what was given is not guest memory of an emulated VM.
    ///   - isClosed: the private side's descriptor is closed.
    ///   - sharedBit: the GPA bit that makes an address shared; nil before the TD has one.
    func check(
        _ request: MemorySlot, file: GuestFile?, isClosed: Bool, machine: TDXMachine, sharedBit: UInt64?
    ) throws(Errno) -> Change {
        let size = request.range.size
        let start = request.range.start
        guard request.id < Self.capacity else { throw .invalidArgument }
        // A TD's memory cannot be read-only, nor its private side watched for writes.
        guard request.flags.isSubset(of: .logDirtyPages), request.guestMemory == nil || request.flags.isEmpty else {
            throw .invalidArgument
        }
        guard size.isPageAligned, start.isPageAligned else { throw .invalidArgument }
        guard request.userspaceAddress % UInt(pageSize) == 0, request.userspaceAddress <= Self.endOfUserSpace,
            size.rawValue <= UInt64(Self.endOfUserSpace - request.userspaceAddress)
        else { throw .invalidArgument }
        if request.guestMemory != nil {
            let offset = request.guestMemoryOffset
            guard offset.isPageAligned, offset.rawValue <= UInt64.max - size.rawValue else { throw .invalidArgument }
        }
        guard size.pages.rawValue <= Self.maximumPages else { throw .invalidArgument }
        guard size != .zero else {
            guard slots[request.id] != nil else { throw .invalidArgument }
            return .delete
        }

        var change = Change.create
        if let old = slots[request.id] {
            guard request.guestMemory == nil, !old.isGuestMemory else { throw .invalidArgument }
            guard old.range.size == size, old.userspaceAddress == request.userspaceAddress else {
                throw .invalidArgument
            }
            if old.range.start == start { return old.flags == request.flags ? .none : .flags }
            change = .move(from: old.range)
        }
        if order.contains(where: { $0.id != request.id && $0.range.overlaps(request.range) }) { throw .fileExists }
        if request.guestMemory != nil {
            if isClosed { throw .badFileDescriptor }
            try checkBinding(request, file: file, machine: machine)
        }
        let last = request.range.end.rawValue - 1
        guard last < 1 << 52, last & (sharedBit ?? 0) == 0 else { throw .invalidArgument }
        return change
    }

    private func checkBinding(_ request: MemorySlot, file: GuestFile?, machine: TDXMachine) throws(Errno) {
        guard let file, file.machine === machine else { throw .invalidArgument }
        if file.isReleased { throw .badFileDescriptor }
        let offset = request.guestMemoryOffset
        guard offset <= file.size, request.range.size <= file.size - offset else { throw .invalidArgument }
        let end = offset + request.range.size
        for slot in order where slot.file === file {
            let bound = slot.fileOffset + slot.range.size
            if offset < bound && slot.fileOffset < end { throw .fileExists }
        }
    }

    mutating func insert(_ slot: Slot) {
        slots[slot.id] = slot
        order.removeAll { $0.id == slot.id }
        let place = order.firstIndex { $0.range.start > slot.range.start } ?? order.endIndex
        order.insert(slot, at: place)
    }

    mutating func remove(_ id: UInt32) {
        slots[id] = nil
        order.removeAll { $0.id == id }
    }

    mutating func setInvalid(_ id: UInt32, _ isInvalid: Bool) {
        guard var slot = slots[id] else { return }
        slot.isInvalid = isInvalid
        insert(slot)
    }

    subscript(id: UInt32) -> Slot? { slots[id] }

    /// The slot that maps an address; O(log slots).
    func slot(containing address: GuestPhysicalAddress) -> Slot? {
        var low = 0
        var high = order.count
        while low < high {
            let middle = (low + high) / 2
            if order[middle].range.end <= address { low = middle + 1 } else { high = middle }
        }
        guard low < order.count, order[low].contains(address) else { return nil }
        return order[low]
    }

    /// The guest-physical pieces that a range of a file is bound to.
    func pieces(of file: GuestFile, offset: ByteCount, length: ByteCount) -> [GuestPhysicalRange] {
        guard offset < file.size else { return [] }
        let end = length < file.size - offset ? offset + length : file.size
        return order.compactMap { slot in
            guard slot.file === file else { return nil }
            let low = max(slot.fileOffset, offset)
            let high = min(slot.fileOffset + slot.range.size, end)
            guard low < high else { return nil }
            return GuestPhysicalRange(start: slot.range.start + (low - slot.fileOffset), size: high - low)
        }
    }

    /// The file closed: its slots stay, without memory.
    mutating func detach(_ file: GuestFile) {
        for index in order.indices where order[index].file === file {
            order[index].file = nil
            slots[order[index].id] = order[index]
        }
    }
}
