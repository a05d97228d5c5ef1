internal import CLinux
public import MemoryUnits
internal import SystemPackage

/// A memfd of fixed size: anonymous memory with a descriptor.
///
/// It is sealed against growing, shrinking and further seals, so that whoever maps a duplicate cannot be hurt by a
/// truncation. Pages appear when they are touched or allocated, zeroed.
public final class MemoryFile: Sendable {
    public let size: ByteCount
    public let identity: FileIdentity
    private let descriptor: SharedDescriptor

    /// memfd_create(2), ftruncate(2), F_ADD_SEALS.
    /// - Parameters:
    ///   - name: up to 249 bytes; it shows in /proc as `/memfd:NAME`.
    ///   - size: in bytes; nothing is allocated yet.
    public init(name: String, size: ByteCount) throws(LinuxError) {
        guard size.rawValue <= UInt64(Int64.max) else {
            throw LinuxError("ftruncate", .fileTooLarge, detail: "\(size)")
        }
        let file = OwnedDescriptor(taking: try LinuxError.check(tdxd_memfd_create(name, 1), "memfd_create", name))
        try LinuxError.retrying("ftruncate", "\(size)") { tdxd_ftruncate(file.rawValue, size.rawValue) }
        // F_SEAL_SEAL 1, F_SEAL_SHRINK 2, F_SEAL_GROW 4.
        try LinuxError.check(tdxd_add_seals(file.rawValue, 7), "fcntl(F_ADD_SEALS)", name)
        self.size = size
        identity = try file.status().identity
        descriptor = SharedDescriptor(file)
    }

    /// Takes over a duplicate of another process's file.
    public init(taking file: consuming OwnedDescriptor) throws(LinuxError) {
        let status = try file.status()
        size = status.size
        identity = status.identity
        descriptor = SharedDescriptor(file)
    }

    /// Every page of the range becomes present.
    public func allocate(offset: ByteCount, length: ByteCount) throws(LinuxError) {
        try withDescriptor("fallocate(KEEP_SIZE)") { number throws(LinuxError) in
            try FileMemory.allocate(descriptor: number, offset: offset, length: length)
        }
        // Without cachestat(2) only pages that were touched can be counted in a part of the file.
        if !FileMemory.hasCachestat { try touch(offset: offset, length: length) }
    }

    /// Pages that fallocate(2) made become data to lseek(2).
    package func touch(offset: ByteCount, length: ByteCount) throws(LinuxError) {
        try map(offset: offset, length: length).populate(offset: .zero, length: length)
    }

    /// The range's pages are freed; what is touched next reads zero.
    public func punchHole(offset: ByteCount, length: ByteCount) throws(LinuxError) {
        try withDescriptor("fallocate(PUNCH_HOLE)") { number throws(LinuxError) in
            try FileMemory.punchHole(descriptor: number, offset: offset, length: length)
        }
    }

    /// Bytes present, as `FileMemory.residentBytes`. Length 0 means to the end.
    public func residentBytes(offset: ByteCount = .zero, length: ByteCount = .zero) throws(LinuxError) -> ByteCount {
        try withDescriptor("cachestat") { number throws(LinuxError) in
            try FileMemory.residentBytes(descriptor: number, offset: offset, length: length)
        }
    }

    /// Maps a part, shared.
    public func map(
        offset: ByteCount = .zero, length: ByteCount, writable: Bool = true
    ) throws(LinuxError) -> FileMapping {
        try withDescriptor("mmap") { number throws(LinuxError) in
            try FileMapping(descriptor: number, offset: offset, size: length, writable: writable)
        }
    }

    /// A second descriptor, close-on-exec. It keeps the memory until it is closed.
    public func duplicateDescriptor() throws(LinuxError) -> OwnedDescriptor {
        let copy = try withDescriptor("fcntl(F_DUPFD_CLOEXEC)") { number throws(LinuxError) in
            try LinuxError.check(tdxd_duplicate(number, 3), "fcntl(F_DUPFD_CLOEXEC)")
        }
        return OwnedDescriptor(taking: copy)
    }

    /// Drops the descriptor; mappings and duplicates keep the memory. A second call does nothing.
    public func close() { descriptor.close() }

    private func withDescriptor<Result>(
        _ operation: String, _ body: (Int32) throws(LinuxError) -> Result
    ) throws(LinuxError) -> Result {
        guard let result = try descriptor.withDescriptor(body) else {
            throw LinuxError(operation, .badFileDescriptor, detail: "the memory file is closed")
        }
        return result
    }
}
