internal import Glibc
internal import MemoryUnits
internal import TDXModule

/// The emulated machine's physical memory as the kernel's page allocator sees it: page frames for the module's control
/// pages and Secure-EPT tables, 2 MiB chunks of frames for the pages of guest memory files, and, below 4 GiB, frames that
/// stand for ordinary host buffers.
///
/// Frame numbers are the emulated machine's own. A frame of a guest memory file resolves to the real page of the real
/// file; control frames hold 4 KiB of process memory only while they are handed out. The frame table is one flat array
/// that the kernel backs with memory only where it is touched: 16 bytes per 2 MiB chunk in use.
final class HostFrames: @unchecked Sendable {
    /// 2 MiB, the unit in which files get frames. A file's pages keep their place inside a chunk.
    static let chunkSize: UInt64 = 2 << 20
    static let pagesPerChunk = 512

    /// One chunk: where its first byte is mapped in this process, 0 when nowhere.
    private struct Chunk {
        var base: UInt
        var isControl: Bool
    }

    /// Memory that TDs may use begins here; what is below is the host's own.
    static let base = HostPhysicalAddress(4 << 30)
    private static let firstHostChunk: UInt64 = 1
    /// Called, with the allocator's lock held, before an address in a new 1 GiB block is first handed out.
    private let prepareGibibyte: @Sendable (_ block: UInt64) -> Bool

    private let lock = Lock()
    // Sound: a chunk's entry is written under `lock` before any address in it is handed out and after the last one came
    // back; in between it is constant and may be read without the lock.
    private let chunks: UnsafeMutablePointer<Chunk>
    private let chunkCount: UInt64
    private var nextChunk = HostFrames.base.rawValue / HostFrames.chunkSize
    private var nextHostChunk = HostFrames.firstHostChunk
    private var preparedGibibytes = HostFrames.base.rawValue >> 30
    private var freeChunks: [UInt64] = []
    private var unmappedChunks: [UInt64: UnmappedContents] = [:]
    private var freeControlPages: [HostPhysicalAddress] = []
    private var freeHostPages: [HostPhysicalAddress] = []
    private var controlPagesInUse: UInt64 = 0
    private var fileChunksInUse: UInt64 = 0

    /// - Parameters:
    ///   - size: emulated memory that TDs may use, a multiple of 1 GiB. It costs nothing until used.
    ///   - prepareGibibyte: readies a 1 GiB block for private use; false when that failed.
    init(size: ByteCount, prepareGibibyte: @escaping @Sendable (_ block: UInt64) -> Bool) {
        chunkCount = (Self.base.rawValue + size.rawValue) / Self.chunkSize
        self.prepareGibibyte = prepareGibibyte
        // calloc of this size is an anonymous mapping: zero, and not resident until touched.
        guard let memory = calloc(Int(chunkCount), MemoryLayout<Chunk>.stride) else {
            preconditionFailure("no address space for the frame table of \(size)")
        }
        chunks = memory.bindMemory(to: Chunk.self, capacity: Int(chunkCount))
    }

    deinit {
        let host = Int(Self.firstHostChunk)..<Int(nextHostChunk)
        let private_ = Int(Self.base.rawValue / Self.chunkSize)..<Int(nextChunk)
        for range in [host, private_] {
            for index in range where chunks[index].isControl {
                munmap(UnsafeMutableRawPointer(bitPattern: chunks[index].base), Int(Self.chunkSize))
            }
        }
        free(chunks)
    }

    // MARK: Chunks of guest memory files

    /// Where the bytes of a chunk are.
    enum Place {
        /// Mapped in this process from this address on.
        case mapped(UnsafeMutableRawPointer)
        /// Not reachable by the process: something else moves whole pages.
        case unmapped(UnmappedContents)
    }

    /// Moves whole pages of a chunk that the process cannot map; offsets are in bytes from the chunk's start.
    struct UnmappedContents: Sendable {
        var fetch: @Sendable (_ offset: UInt64, _ into: UnsafeMutableRawBufferPointer) -> Void
        var store: @Sendable (_ offset: UInt64, _ from: UnsafeRawBufferPointer) -> Void
    }

    /// 2 MiB of frames for a piece of a file; nil when the emulated machine is full.
    func allocateChunk(_ place: Place) -> HostPhysicalAddress? {
        lock.withLock {
            guard let index = takeChunk() else { return nil }
            switch place {
            case .mapped(let base): chunks[Int(index)] = Chunk(base: UInt(bitPattern: base), isControl: false)
            case .unmapped(let contents): unmappedChunks[index] = contents
            }
            fileChunksInUse += 1
            return HostPhysicalAddress(index * Self.chunkSize)
        }
    }

    /// Takes back what `allocateChunk` gave. No page in it may belong to a TD any more.
    func freeChunk(_ address: HostPhysicalAddress) {
        lock.withLock {
            let index = address.rawValue / Self.chunkSize
            chunks[Int(index)] = Chunk(base: 0, isControl: false)
            unmappedChunks[index] = nil
            freeChunks.append(index)
            fileChunksInUse -= 1
        }
    }

    // MARK: Control pages

    /// One frame for a control page or a Secure-EPT table; nil when the emulated machine is full.
    func allocateControlPage() -> HostPhysicalAddress? {
        lock.withLock {
            if freeControlPages.isEmpty, !addControlChunk() { return nil }
            controlPagesInUse += 1
            return freeControlPages.removeLast()
        }
    }

    func freeControlPage(_ address: HostPhysicalAddress) {
        lock.withLock {
            // What a control page held is gone with it, and so is the memory.
            madvise(pointer(to: address), Int(pageSize), MADV_DONTNEED)
            freeControlPages.append(address)
            controlPagesInUse -= 1
        }
    }

    // MARK: Host buffers

    /// One frame of ordinary host memory, zeroed, for a buffer that the module reads; nil when memory is short.
    func allocateHostPage() -> HostPhysicalAddress? {
        lock.withLock {
            if freeHostPages.isEmpty {
                guard nextHostChunk < Self.base.rawValue / Self.chunkSize, let pages = backChunk(nextHostChunk) else {
                    return nil
                }
                nextHostChunk += 1
                freeHostPages = pages
            }
            return freeHostPages.removeLast()
        }
    }

    func freeHostPage(_ address: HostPhysicalAddress) {
        lock.withLock {
            madvise(pointer(to: address), Int(pageSize), MADV_DONTNEED)
            freeHostPages.append(address)
        }
    }

    /// Control frames and 2 MiB file chunks that are handed out at this moment.
    var usage: (controlPages: UInt64, fileChunks: UInt64) {
        lock.withLock { (controlPagesInUse, fileChunksInUse) }
    }

    // MARK: Contents

    /// Lends the bytes at an address of a handed-out frame: the page itself where the process maps it, otherwise a copy
    /// that the file's own means fetch and, when `writes`, store. Never reaches over a page's end.
    func withPage(
        of address: HostPhysicalAddress, count: Int, writes: Bool,
        _ body: (UnsafeMutableRawBufferPointer) -> Void
    ) {
        let offset = Int(address.rawValue % pageSize)
        precondition(count <= Int(pageSize) - offset, "an access crosses a page")
        if let pointer = pointer(to: address) {
            body(UnsafeMutableRawBufferPointer(start: pointer, count: count))
            return
        }
        let chunk = address.rawValue / Self.chunkSize
        guard let contents = lock.withLock({ unmappedChunks[chunk] }) else {
            preconditionFailure("no memory at the host frame \(address)")
        }
        let inChunk = address.rawValue % Self.chunkSize / pageSize * pageSize
        withUnsafeTemporaryAllocation(byteCount: Int(pageSize), alignment: 64) { page in
            contents.fetch(inChunk, page)
            body(UnsafeMutableRawBufferPointer(rebasing: page[offset..<offset + count]))
            if writes { contents.store(inChunk, UnsafeRawBufferPointer(page)) }
        }
    }

    /// The byte at a frame address that is handed out; nil where the process maps nothing there.
    func pointer(to address: HostPhysicalAddress) -> UnsafeMutableRawPointer? {
        let index = address.rawValue / Self.chunkSize
        guard index < chunkCount else { return nil }
        let base = chunks[Int(index)].base
        guard base != 0 else { return nil }
        return UnsafeMutableRawPointer(bitPattern: base + UInt(address.rawValue % Self.chunkSize))
    }

    private func takeChunk() -> UInt64? {
        if let index = freeChunks.popLast() { return index }
        guard nextChunk < chunkCount else { return nil }
        let block = (nextChunk * Self.chunkSize) >> 30
        if block >= preparedGibibytes {
            guard prepareGibibyte(block) else { return nil }
            preparedGibibytes = block + 1
        }
        defer { nextChunk += 1 }
        return nextChunk
    }

    private func addControlChunk() -> Bool {
        guard let index = takeChunk() else { return false }
        guard let pages = backChunk(index) else {
            freeChunks.append(index)
            return false
        }
        freeControlPages = pages
        return true
    }

    /// Backs a chunk with process memory; its pages, the lowest last.
    private func backChunk(_ index: UInt64) -> [HostPhysicalAddress]? {
        let memory = mmap(
            nil, Int(Self.chunkSize), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let memory, memory != MAP_FAILED else { return nil }
        chunks[Int(index)] = Chunk(base: UInt(bitPattern: memory), isControl: true)
        return (0..<UInt64(Self.pagesPerChunk)).reversed().map {
            HostPhysicalAddress(index * Self.chunkSize + $0 * pageSize)
        }
    }
}

/// The contents of the emulated host's frames, as the software module reads and writes them. A private page's bytes are those of
/// the real guest memory file, in the clear: key ids select nothing here, and a read with the wrong key is not scrambled.
struct EmulatedMemory: PhysicalMemory {
    let frames: HostFrames

    func read(_ address: HostPhysicalAddress, key: KeyID, into buffer: UnsafeMutableRawBufferPointer) {
        frames.withPage(of: address, count: buffer.count, writes: false) { page in
            buffer.copyMemory(from: UnsafeRawBufferPointer(page))
        }
    }

    func write(_ address: HostPhysicalAddress, key: KeyID, from buffer: UnsafeRawBufferPointer) {
        frames.withPage(of: address, count: buffer.count, writes: true) { page in page.copyMemory(from: buffer) }
    }

    func zeroPage(_ page: HostPhysicalAddress, key: KeyID) {
        frames.withPage(of: page, count: Int(pageSize), writes: true) { page in
            _ = memset(page.baseAddress!, 0, page.count)
        }
    }

    func copyPage(
        from source: HostPhysicalAddress, sourceKey: KeyID, to destination: HostPhysicalAddress, key: KeyID
    ) {
        frames.withPage(of: source, count: Int(pageSize), writes: false) { source in
            write(destination, key: key, from: UnsafeRawBufferPointer(source))
        }
    }
}
