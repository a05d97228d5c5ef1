internal import CLinux
internal import SystemPackage

/// Small text files of /proc, /sys and /etc, whose size stat(2) does not know.
public enum TextFile {
    /// The whole content; bytes that are no UTF-8 are replaced.
    /// - Parameter limit: bytes; a longer file is refused with EFBIG.
    public static func read(_ path: String, limit: Int = 16 << 20) throws(LinuxError) -> String {
        String(decoding: try readBytes(path, limit: limit), as: UTF8.self)
    }

    /// The whole content.
    /// - Parameter limit: bytes; a longer file is refused with EFBIG.
    public static func readBytes(_ path: String, limit: Int = 16 << 20) throws(LinuxError) -> [UInt8] {
        let file = try OwnedDescriptor.open(path: path)
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = try LinuxError.retrying("read", path) {
                chunk.withUnsafeMutableBytes { tdxd_read(file.rawValue, $0.baseAddress, $0.count) }
            }
            if count == 0 { return content }
            content += chunk[..<Int(count)]
            guard content.count <= limit else {
                throw LinuxError("read", .fileTooLarge, detail: "\(path) is longer than \(limit) bytes")
            }
        }
    }

    /// readlink(2)
    public static func linkTarget(_ path: String) throws(LinuxError) -> String {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = try LinuxError.check(
            buffer.withUnsafeMutableBytes { tdxd_readlink(path, $0.baseAddress, $0.count) }, "readlink", path)
        return String(decoding: buffer[..<Int(count)], as: UTF8.self)
    }

    /// The names in a directory, in no order, without `.` and `..`.
    public static func list(_ path: String) throws(LinuxError) -> [String] {
        var names: [String] = []
        let result = withUnsafeMutablePointer(to: &names) { names in
            tdxd_list_directory(path, names) { context, name in
                context!.assumingMemoryBound(to: [String].self).pointee.append(String(cString: name!))
            }
        }
        try LinuxError.check(result, "readdir", path)
        return names
    }
}
