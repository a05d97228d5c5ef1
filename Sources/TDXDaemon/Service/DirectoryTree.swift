internal import Glibc

/// Directories of the daemon's own.
enum DirectoryTree {
    /// Makes a directory and its parents where they are missing.
    /// - Parameter mode: of what is made; what is there keeps its own.
    static func make(_ path: String, mode: mode_t) throws(DurableFile.Failure) {
        var prefix = ""
        for part in path.split(separator: "/") {
            prefix += (prefix.isEmpty && !path.hasPrefix("/") ? "" : "/") + part
            if mkdir(prefix, mode) != 0, errno != EEXIST {
                throw DurableFile.Failure(operation: "mkdir", path: prefix, errno: errno)
            }
        }
        var status = stat()
        guard stat(path, &status) == 0 else { throw DurableFile.Failure(operation: "stat", path: path, errno: errno) }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw DurableFile.Failure(operation: "mkdir", path: path, errno: ENOTDIR)
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
    static func remove(_ path: String) throws(DurableFile.Failure) {
        for name in names(in: path) {
            let entry = path + "/" + name
            var status = stat()
            guard lstat(entry, &status) == 0 else { continue }
            if status.st_mode & S_IFMT == S_IFDIR {
                try remove(entry)
            } else if unlink(entry) != 0, errno != ENOENT {
                throw DurableFile.Failure(operation: "unlink", path: entry, errno: errno)
            }
        }
        if rmdir(path) != 0, errno != ENOENT {
            throw DurableFile.Failure(operation: "rmdir", path: path, errno: errno)
        }
    }
}

extension DirectoryTree {
    /// Removes one file; one that is missing is as good.
    static func removeFile(_ path: String) { unlink(path) }
}
