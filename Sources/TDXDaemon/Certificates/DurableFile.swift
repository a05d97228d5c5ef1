internal import Glibc
internal import LinuxSystem

/// Files that are there whole or not at all, also after a power failure.
enum DurableFile {
    struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
        var operation: String
        var path: String
        var errno: Int32

        var description: String { "\(operation) of \(path): \(String(cString: strerror(errno)))" }
    }

    /// Writes `bytes` beside `name`, syncs them, moves them into place and syncs the directory.
    static func write(_ bytes: [UInt8], name: String, in directory: String, mode: mode_t = 0o640) throws(Failure) {
        let temporary = directory + "/." + name + ".new"
        let path = directory + "/" + name
        let number = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode)
        guard number >= 0 else { throw Failure(operation: "open", path: temporary, errno: errno) }
        let file = OwnedDescriptor(taking: number)
        do throws(Failure) {
            try writeAll(bytes, to: file.rawValue, path: temporary)
            guard fsync(file.rawValue) == 0 else { throw Failure(operation: "fsync", path: temporary, errno: errno) }
            guard rename(temporary, path) == 0 else { throw Failure(operation: "rename", path: path, errno: errno) }
        } catch {
            unlink(temporary)
            throw error
        }
        let place = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard place >= 0 else { throw Failure(operation: "open", path: directory, errno: errno) }
        let held = OwnedDescriptor(taking: place)
        guard fsync(held.rawValue) == 0 else { throw Failure(operation: "fsync", path: directory, errno: errno) }
    }

    /// The whole content of a regular file of at most `limit` bytes.
    static func read(path: String, limit: Int = 1 << 20) throws(Failure) -> [UInt8] {
        let number = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard number >= 0 else { throw Failure(operation: "open", path: path, errno: errno) }
        let file = OwnedDescriptor(taking: number)
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 14)
        while true {
            let count = Glibc.read(file.rawValue, &chunk, chunk.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw Failure(operation: "read", path: path, errno: errno)
            }
            if count == 0 { return bytes }
            bytes.append(contentsOf: chunk[..<count])
            guard bytes.count <= limit else { throw Failure(operation: "read", path: path, errno: EFBIG) }
        }
    }

    private static func writeAll(_ bytes: [UInt8], to descriptor: Int32, path: String) throws(Failure) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                throw Failure(operation: "write", path: path, errno: errno)
            }
            rest = rest.dropFirst(count)
        }
    }
}
