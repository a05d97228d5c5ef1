internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// The file of a guest memory descriptor: the real memory, the frames that its pages have on the emulated host, and
/// the reference on the VM that it holds until its last descriptor and mapping are gone.
///
/// Frames exist per 2 MiB of the file and only while a page in there belongs to the TD: 6 bytes a chunk, in tables of
/// one GiB. The host mapping through which the module reaches a page exists per GiB, only while chunks in it do.
final class GuestFile: @unchecked Sendable {
    let machine: TDXMachine
    let size: ByteCount
    let real: any KVMGuestMemory
    /// GUEST_MEMFD_FLAG_MMAP was asked for.
    let isMappable: Bool
    /// The inode's invalidate lock: held shared by who puts pages in, exclusive by who takes them out.
    let invalidateLock = ReadWriteLock()

    private struct Window {
        var mapping: (any MappedMemory)?
        /// The frame number of each chunk's first byte in units of chunks; 0 for none.
        var chunks = [UInt32](repeating: 0, count: 512)
        /// Pages of each chunk that belong to the TD.
        var pages = [UInt16](repeating: 0, count: 512)
        var chunksInUse = 0
    }

    private static let windowSize: UInt64 = 1 << 30

    private let lock = Lock()
    // Sound: all are only touched inside `lock`.
    private var windows: [UInt64: Window] = [:]
    /// Where the file's ranges are in the guest, by slot; a copy of the slot table's for who may not take its locks.
    private var bindings: [UInt32: (range: GuestPhysicalRange, offset: ByteCount)] = [:]
    private var references = 1
    private var released = false

    init(machine: TDXMachine, size: ByteCount, real: any KVMGuestMemory, isMappable: Bool) {
        self.machine = machine
        self.size = size
        self.real = real
        self.isMappable = isMappable
    }

    // MARK: References

    /// The last descriptor and mapping are gone.
    var isReleased: Bool { lock.withLock { released } }

    func retain() { lock.withLock { references += 1 } }

    func release() {
        let isLast = lock.withLock {
            references -= 1
            return references == 0
        }
        guard isLast else { return }
        machine.releaseFile(self)
        lock.withLock {
            released = true
            // Empty unless the VM is bugged: its pages then stay the module's, unreachable.
            for table in windows.values { table.mapping?.unmap() }
            windows = [:]
        }
        real.close()
        machine.release()
    }

    // MARK: Bindings

    func bind(_ slot: SlotTable.Slot) { lock.withLock { bindings[slot.id] = (slot.range, slot.fileOffset) } }

    func unbind(_ id: UInt32) { lock.withLock { bindings[id] = nil } }

    /// Whether a slot has any of a range.
    func isBound(_ range: FileRange) -> Bool {
        lock.withLock {
            bindings.values.contains { binding in
                range.offset < binding.offset + binding.range.size
                    && (binding.offset < range.offset || binding.offset - range.offset < range.length)
            }
        }
    }

    /// Where a page of the file is in the guest; nil where it is bound to no slot.
    func address(of offset: ByteCount) -> GuestPhysicalAddress? {
        lock.withLock {
            for binding in bindings.values where offset >= binding.offset {
                let inSlot = offset - binding.offset
                if inSlot < binding.range.size { return binding.range.start + inSlot }
            }
            return nil
        }
    }

    // MARK: Frames

    /// The frame of a page, whose chunk gets frames now if it has none; nil when the emulated host has no frame left or
    /// the process no room for the mapping. Counts the page as the TD's until `giveBack`.
    func takeFrame(at offset: ByteCount) -> HostPhysicalAddress? {
        lock.withLock {
            let (window, chunk) = Self.place(of: offset)
            if windows[window] == nil {
                guard let mapping = mapWindow(window) else { return nil }
                windows[window] = mapping
            }
            if windows[window]!.chunks[chunk] == 0 {
                let place = chunkPlace(windows[window]!, window, chunk)
                guard let frame = machine.host.frames.allocateChunk(place) else {
                    dropEmptyWindow(window)
                    return nil
                }
                windows[window]!.chunks[chunk] = UInt32(frame.rawValue / HostFrames.chunkSize)
                windows[window]!.chunksInUse += 1
            }
            windows[window]!.pages[chunk] += 1
            return frame(window, chunk, offset)
        }
    }

    /// The frame of a page that belongs to the TD.
    func frame(at offset: ByteCount) -> HostPhysicalAddress? {
        lock.withLock {
            let (window, chunk) = Self.place(of: offset)
            guard let table = windows[window], table.chunks[chunk] != 0 else { return nil }
            return frame(window, chunk, offset)
        }
    }

    /// The page is the host's again; the last one of a chunk gives the chunk's frames back.
    func giveBackFrame(at offset: ByteCount) {
        lock.withLock {
            let (window, chunk) = Self.place(of: offset)
            windows[window]!.pages[chunk] -= 1
            guard windows[window]!.pages[chunk] == 0 else { return }
            let index = UInt64(windows[window]!.chunks[chunk])
            machine.host.frames.freeChunk(HostPhysicalAddress(index * HostFrames.chunkSize))
            windows[window]!.chunks[chunk] = 0
            windows[window]!.chunksInUse -= 1
            dropEmptyWindow(window)
        }
    }

    /// Drops the process's page-table entries for a part, so that punching it need not.
    func dropMappings(_ range: FileRange) {
        lock.withLock {
            guard range.length != .zero, range.offset < size else { return }
            let end = range.offset.rawValue + min(range.length.rawValue, size.rawValue - range.offset.rawValue)
            let touched = range.offset.rawValue / Self.windowSize...(end - 1) / Self.windowSize
            func drop(_ window: UInt64) {
                guard let mapping = windows[window]?.mapping else { return }
                let start = window * Self.windowSize
                let low = max(range.offset.rawValue, start)
                let high = min(end, start + mapping.size.rawValue)
                mapping.dropMappings(offset: ByteCount(low - start), length: ByteCount(high - low))
            }
            if touched.count <= windows.count {
                touched.forEach(drop)
            } else {
                windows.keys.filter(touched.contains).forEach(drop)
            }
        }
    }

    private func frame(_ window: UInt64, _ chunk: Int, _ offset: ByteCount) -> HostPhysicalAddress {
        let index = UInt64(windows[window]!.chunks[chunk])
        return HostPhysicalAddress(index * HostFrames.chunkSize + offset.rawValue % HostFrames.chunkSize)
    }

    private func mapWindow(_ window: UInt64) -> Window? {
        guard machine.backing.isHostWritable else { return Window() }
        let start = window * Self.windowSize
        let length = min(Self.windowSize, size.rawValue - start)
        guard let mapping = try? real.map(FileRange(offset: ByteCount(start), length: ByteCount(length))) else {
            return nil
        }
        return Window(mapping: mapping)
    }

    private func chunkPlace(_ table: Window, _ window: UInt64, _ chunk: Int) -> HostFrames.Place {
        if let mapping = table.mapping { return .mapped(mapping.baseAddress + chunk * Int(HostFrames.chunkSize)) }
        let start = window * Self.windowSize + UInt64(chunk) * HostFrames.chunkSize
        // Unowned is enough: a chunk never outlives its file.
        return .unmapped(
            HostFrames.UnmappedContents(
                fetch: { [unowned self] offset, page in
                    machine.copyPage(of: self, at: ByteCount(start + offset), .fetch, page)
                },
                store: { [unowned self] offset, page in
                    // Only read for a store.
                    let bytes = UnsafeMutableRawBufferPointer(mutating: page)
                    machine.copyPage(of: self, at: ByteCount(start + offset), .store, bytes)
                }))
    }

    private func dropEmptyWindow(_ window: UInt64) {
        guard windows[window]!.chunksInUse == 0 else { return }
        windows[window]!.mapping?.unmap()
        windows[window] = nil
    }

    private static func place(of offset: ByteCount) -> (window: UInt64, chunk: Int) {
        (offset.rawValue / windowSize, Int(offset.rawValue % windowSize / HostFrames.chunkSize))
    }
}
