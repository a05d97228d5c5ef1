internal import CLinux
internal import Glibc
public import MemoryUnits

extension OwnedDescriptor {
    /// How a file is opened. Every descriptor is close-on-exec.
    public enum Access: Sendable {
        case readOnly, readWrite, writeOnly
        /// O_PATH: a place in the file system, not its content.
        case place

        var flags: CInt {
            switch self {
            case .readOnly: 0
            case .writeOnly: 1
            case .readWrite: 2
            case .place: 0o10000000
            }
        }
    }

    /// Opens an existing file: open(2) with O_CLOEXEC.
    /// - Parameter nonBlocking: O_NONBLOCK, so that opening a FIFO or device does not wait.
    public static func open(
        path: String, _ access: Access = .readOnly, nonBlocking: Bool = false
    ) throws(LinuxError) -> OwnedDescriptor {
        let flags = access.flags | (nonBlocking ? 0o4000 : 0)
        let number = try LinuxError.retrying("open", path) { tdxd_open(path, flags, 0) }
        return OwnedDescriptor(taking: number)
    }

    /// Makes a file that does not exist yet and opens it for writing: open(2) with O_CREAT, O_EXCL and O_CLOEXEC.
    /// - Throws: EEXIST when there is anything at `path`.
    public static func create(path: String, mode: UInt32 = 0o600) throws(LinuxError) -> OwnedDescriptor {
        let number = try LinuxError.retrying("open(O_CREAT)", path) { tdxd_open(path, 0o301, mode) }
        return OwnedDescriptor(taking: number)
    }

    /// What a name stands for beneath this directory, as a place: openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS
    /// and RESOLVE_NO_MAGICLINKS.
    /// - Throws: ELOOP for a link, EXDEV for what leads out.
    public func openBeneath(_ name: String) throws(LinuxError) -> OwnedDescriptor {
        let number = try LinuxError.retrying("openat2", name) { tdxd_open_beneath(rawValue, name) }
        return OwnedDescriptor(taking: number)
    }

    /// The number that fstatfs(2) gives for the file system, as in linux/magic.h.
    public func fileSystemType() throws(LinuxError) -> UInt32 {
        var type: UInt32 = 0
        try LinuxError.check(tdxd_file_system_type(rawValue, &type), "fstatfs")
        return type
    }

    /// Another descriptor of the same open file, close-on-exec.
    public func duplicate() throws(LinuxError) -> OwnedDescriptor {
        OwnedDescriptor(taking: try Self.duplicateNumber(rawValue))
    }

    /// As `duplicate()`, for a number that someone else owns; the caller owns the result.
    package static func duplicateNumber(_ number: Int32) throws(LinuxError) -> Int32 {
        try LinuxError.check(tdxd_duplicate(number, 3), "fcntl(F_DUPFD_CLOEXEC)", "descriptor \(number)")
    }

    /// fstat(2)
    public func status() throws(LinuxError) -> FileStatus { try FileStatus(ofDescriptor: rawValue) }

    /// Whether it was opened for reading; a mere place in the file system was not.
    public func isReadable() throws(LinuxError) -> Bool {
        let result = fcntl(rawValue, F_GETFL)
        let flags = try LinuxError.check(result < 0 ? -errno : result, "fcntl(F_GETFL)")
        return flags & Access.place.flags == 0 && flags & 0b11 != Access.writeOnly.flags
    }

    /// FD_CLOEXEC
    public func isCloseOnExec() throws(LinuxError) -> Bool {
        try LinuxError.check(tdxd_get_close_on_exec(rawValue), "fcntl(F_GETFD)") != 0
    }

    public func setCloseOnExec(_ on: Bool) throws(LinuxError) {
        try LinuxError.check(tdxd_set_close_on_exec(rawValue, on ? 1 : 0), "fcntl(F_SETFD)")
    }

    /// pread(2): up to `count` bytes from `offset`, fewer only at the end of the file.
    public func read(count: Int, at offset: ByteCount) throws(LinuxError) -> [UInt8] {
        try Self.read(rawValue, count: count, at: offset)
    }

    /// As above, for a number that someone else owns.
    static func read(_ number: Int32, count: Int, at offset: ByteCount) throws(LinuxError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let start = done
            let n = try LinuxError.retrying("pread") {
                bytes.withUnsafeMutableBytes { buffer in
                    tdxd_pread(
                        number, buffer.baseAddress! + start, count - start, Int64(offset.rawValue) + Int64(start))
                }
            }
            if n == 0 { break }
            done += Int(n)
        }
        return done == count ? bytes : Array(bytes[..<done])
    }

    /// pwrite(2), until every byte is written.
    public func write(_ bytes: UnsafeRawBufferPointer, at offset: ByteCount) throws(LinuxError) {
        var done = 0
        while done < bytes.count {
            let start = done
            let n = try LinuxError.retrying("pwrite") {
                tdxd_pwrite(
                    rawValue, bytes.baseAddress! + start, bytes.count - start, Int64(offset.rawValue) + Int64(start))
            }
            done += Int(n)
        }
    }
}
