internal import LinuxSystem
internal import Synchronization

/// Numbers of groups. /etc/group is read by us: a statically linked program cannot ask the name service, and asking it
/// could block the event loop.
enum UserGroups {
    private static let cache = Mutex<[String: UInt32?]>([:])

    /// The number of a group in /etc/group; nil when there is none of that name. Remembered until `forget()`.
    static func number(of name: String) -> UInt32? {
        cache.withLock { cache in
            if let known = cache[name] { return known }
            let found = (try? TextFile.read("/etc/group")).flatMap { number(of: name, in: $0) }
            cache[name] = .some(found)
            return found
        }
    }

    /// Reads /etc/group again the next time.
    static func forget() { cache.withLock { $0 = [:] } }

    /// The third field of the line that begins with the name.
    static func number(of name: String, in text: String) -> UInt32? {
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            if fields.count >= 3, fields[0] == name { return UInt32(fields[2]) }
        }
        return nil
    }
}
