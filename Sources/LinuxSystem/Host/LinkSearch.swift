internal import CLinux

/// The symbolic links of one directory whose targets contain a text, such as a process's descriptors in /proc/PID/fd.
public struct LinkSearch: Hashable, Sendable {
    public struct Link: Hashable, Sendable {
        public var name: String
        /// 255 bytes at most; longer targets are cut.
        public var target: String
    }

    /// In no order.
    public var links: [Link]
    /// Links that were looked at, also those that do not match.
    public var count: Int

    /// Links that go while the directory is read are left out.
    /// - Throws: ENOENT or ESRCH when the directory is gone, EACCES or EPERM when it may not be looked into.
    public static func find(_ part: String, in directory: String) throws(LinuxError) -> Self {
        var links: [Link] = []
        let result = withUnsafeMutablePointer(to: &links) { links in
            // The callback runs during the call only, and so does its use of the pointer.
            tdxd_find_links(directory, part, links) { context, name, target in
                context!.assumingMemoryBound(to: [Link].self).pointee.append(
                    Link(name: String(cString: name!), target: String(cString: target!)))
            }
        }
        return Self(links: links, count: Int(try LinuxError.check(result, "readdir", directory)))
    }
}
