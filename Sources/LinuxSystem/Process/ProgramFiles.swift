/// The files that the running program came from.
public enum ProgramFiles {
    /// The running program's path. The kernel marks one that was replaced while it runs, as an upgrade does; the mark
    /// is left out.
    /// - Parameter link: the kernel's link to it.
    public static func own(link: String = "/proc/self/exe") throws(LinuxError) -> String {
        let path = try TextFile.linkTarget(link)
        return path.hasSuffix(" (deleted)") ? String(path.dropLast(10)) : path
    }

    /// Where libraries are, and where those of this process came from as far as /proc shows: what a sandbox must leave
    /// readable.
    public static var libraryDirectories: [String] {
        var found: Set<String> = ["/usr", "/lib", "/lib64"]
        for line in ((try? TextFile.read("/proc/self/maps")) ?? "").split(separator: "\n") {
            guard let start = line.firstIndex(of: "/") else { continue }
            let path = String(line[start...])
            if path.contains(".so") { found.insert(parentDirectory(of: path)) }
        }
        return found.sorted()
    }
}
