internal import CLinux
public import MemoryUnits
internal import SystemPackage

/// Makes a file of memory that one process fills and others read: once it is sealed no process can change it, so
/// that a reader who has checked what is in it reads the same again.
public struct SealedFileBuilder: ~Copyable {
    private let file: OwnedDescriptor
    public private(set) var size = ByteCount.zero

    /// An empty memfd.
    /// - Parameter name: up to 249 bytes; it shows in /proc as `/memfd:NAME`.
    public init(name: String) throws(LinuxError) {
        file = OwnedDescriptor(taking: try LinuxError.check(tdxd_memfd_create(name, 1), "memfd_create", name))
    }

    /// - Throws: ENOMEM, ENOSPC, or EFBIG by RLIMIT_FSIZE.
    public mutating func append(_ bytes: [UInt8]) throws(LinuxError) {
        var failure: LinuxError?
        bytes.withUnsafeBytes { buffer in
            do throws(LinuxError) { try file.write(buffer, at: size) } catch { failure = error }
        }
        if let failure { throw failure }
        size += ByteCount(UInt64(bytes.count))
    }

    /// The file, which can neither grow, shrink nor be written any more.
    public consuming func sealed() throws(LinuxError) -> OwnedDescriptor {
        // F_SEAL_SEAL 1, F_SEAL_SHRINK 2, F_SEAL_GROW 4, F_SEAL_WRITE 8.
        try LinuxError.check(tdxd_add_seals(file.rawValue, 15), "fcntl(F_ADD_SEALS)")
        return file
    }
}

/// The reading side of a sealed file, for several threads, one of which may close it.
public final class SealedFile: Sendable {
    public let size: ByteCount
    private let descriptor: SharedDescriptor

    /// - Throws: `EINVAL` for a file that could still be changed.
    public init(_ file: consuming OwnedDescriptor) throws(LinuxError) {
        let seals = try LinuxError.check(tdxd_get_seals(file.rawValue), "fcntl(F_GET_SEALS)")
        guard seals & 14 == 14 else {
            throw LinuxError("fcntl(F_GET_SEALS)", .invalidArgument, detail: "seals \(seals) let the file be changed")
        }
        size = try file.status().size
        descriptor = SharedDescriptor(file)
    }

    /// Up to `count` bytes from `offset`, fewer only at the end of the file.
    /// - Throws: `EBADF` once it is closed.
    public func read(count: Int, at offset: ByteCount) throws(LinuxError) -> [UInt8] {
        let bytes = try descriptor.withDescriptor { number throws(LinuxError) -> [UInt8] in
            try OwnedDescriptor.read(number, count: count, at: offset)
        }
        guard let bytes else { throw LinuxError("pread", .badFileDescriptor, detail: "the sealed file is closed") }
        return bytes
    }

    /// Gives its memory back, unless others have it open. A second call does nothing.
    public func close() { descriptor.close() }
}
