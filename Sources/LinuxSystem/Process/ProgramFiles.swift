/// The files that the running program came from.
public enum ProgramFiles {
    /// The running program's path. The kernel marks one that was replaced while it runs, as an upgrade does; the mark is left out.
    /// - Parameter link: where the kernel tells it.
    public static func own(link: String = "/proc/self/exe") throws(LinuxError) -> String {
        let path = try TextFile.linkTarget(link)
        return path.hasSuffix(" (deleted)") ? String(path.dropLast(10)) : path
    }

    /// Paths of the shared libraries that are mapped into this process; none where /proc is missing.
    public static var libraries: Set<String> {
        var found: Set<String> = []
        for line in ((try? TextFile.read("/proc/self/maps")) ?? "").split(separator: "\n") {
            guard let start = line.firstIndex(of: "/") else { continue }
            let path = String(line[start...])
            if path.contains(".so") { found.insert(path) }
        }
        return found
    }
}
