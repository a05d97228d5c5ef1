internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// Directories of the daemon's own.
enum DirectoryTree {
    /// Makes a directory and its parents where they are missing.
    /// - Parameter mode: of what is made; what is there keeps its own.
    static func make(_ path: String, mode: mode_t) throws(LinuxError) {
        var prefix = ""
        for part in path.split(separator: "/") {
            prefix += (prefix.isEmpty && !path.hasPrefix("/") ? "" : "/") + part
            if mkdir(prefix, mode) != 0, errno != EEXIST {
                throw LinuxError("mkdir", Errno(rawValue: errno), detail: prefix)
            }
        }
        var status = stat()
        guard stat(path, &status) == 0 else { throw LinuxError("stat", Errno(rawValue: errno), detail: path) }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw LinuxError("mkdir", .notDirectory, detail: path)
        }
    }

    /// The names in a directory without `.` and `..`, in order; empty for one that cannot be read.
    static func names(in path: String) -> [String] {
        guard let handle = opendir(path) else { return [] }
        defer { closedir(handle) }
        var found: [String] = []
        while let entry = readdir(handle) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { found.append(name) }
        }
        return found.sorted()
    }

    /// Removes a directory with everything in it. Links are removed, never followed.
    static func remove(_ path: String) throws(LinuxError) {
        for name in names(in: path) {
            let entry = path + "/" + name
            var status = stat()
            guard lstat(entry, &status) == 0 else { continue }
            if status.st_mode & S_IFMT == S_IFDIR {
                try remove(entry)
            } else if unlink(entry) != 0, errno != ENOENT {
                throw LinuxError("unlink", Errno(rawValue: errno), detail: entry)
            }
        }
        if rmdir(path) != 0, errno != ENOENT {
            throw LinuxError("rmdir", Errno(rawValue: errno), detail: path)
        }
    }
}

extension DirectoryTree {
    /// Removes one file; one that is missing is as good.
    static func removeFile(_ path: String) { unlink(path) }
}
