public import KVM
public import LinuxSystem
public import MemoryUnits
internal import SystemPackage

/// A guest_memfd of an emulated TDX VM. Its pages are pages of a real guest_memfd or memfd.
///
/// A duplicate that is handed to another process keeps the real memory, but not the emulated VM: the software module
/// lives in this process and cannot see what others hold.
public final class EmulatedGuestMemory: KVMGuestMemory {
    let file: GuestFile
    private let handle: Handle

    init(_ file: GuestFile) {
        self.file = file
        handle = Handle(retain: file.retain, release: file.release)
    }

    public var size: ByteCount { file.size }
    public var inode: UInt64 { file.real.inode }
    var isClosed: Bool { handle.isClosed }

    public func allocate(_ range: FileRange) throws(KVMError) {
        try handle.use("fallocate(KEEP_SIZE)") { () throws(KVMError) in
            try file.invalidateLock.withReadLock { () throws(KVMError) in try file.real.allocate(range) }
        }
    }

    public func punchHole(_ range: FileRange) throws(KVMError) {
        try handle.use("fallocate(PUNCH_HOLE)") { () throws(KVMError) in try file.machine.punch(file, range) }
    }

    public func residentBytes(_ range: FileRange) throws(KVMError) -> ByteCount {
        try handle.use("cachestat") { () throws(KVMError) in try file.real.residentBytes(range) }
    }

    /// ENODEV without MMAP. With MMAP, which a TDX VM accepts, the mapping exists but touching it raises SIGBUS.
    public func map(_ range: FileRange) throws(KVMError) -> any MappedMemory {
        try handle.use("mmap") { () throws(KVMError) in
            guard file.isMappable else {
                throw KVMError("mmap", .operationNotSupportedByDevice, detail: "the guest memory was made without MMAP")
            }
            return try UntouchableMapping(file, range)
        }
    }

    public func duplicateDescriptor() throws(KVMError) -> OwnedDescriptor {
        try handle.use("fcntl(F_DUPFD_CLOEXEC)") { () throws(KVMError) in try file.real.duplicateDescriptor() }
    }

    public func close() { handle.close() }
}

/// A mapping of private memory: address space that raises SIGBUS, holding a reference on the file.
private final class UntouchableMapping: MappedMemory {
    let size: ByteCount
    private let empty: FileMapping
    private let handle: Handle

    init(_ file: GuestFile, _ range: FileRange) throws(KVMError) {
        guard range.offset.isPageAligned, range.length != .zero else {
            throw KVMError("mmap", .invalidArgument, detail: "\(range)")
        }
        do throws(LinuxError) {
            // Beyond the end of a file every touch is SIGBUS.
            let file = try MemoryFile(name: "tdxd-untouchable", size: .zero)
            empty = try file.map(length: range.length)
            file.close()
        } catch {
            throw KVMError(error.operation, error.errno, detail: error.detail)
        }
        size = range.length
        file.retain()
        handle = Handle(retain: file.retain, release: file.release)
    }

    var baseAddress: UnsafeMutableRawPointer { empty.baseAddress }

    func dropMappings(offset: ByteCount, length: ByteCount) { empty.dropMappings(offset: offset, length: length) }

    func unmap() {
        empty.unmap()
        handle.close()
    }
}
