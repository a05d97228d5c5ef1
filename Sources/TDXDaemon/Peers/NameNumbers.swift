internal import LinuxSystem
internal import Synchronization

/// Numbers of users and groups. /etc/passwd and /etc/group are read by us: a statically linked program cannot ask the name
/// service, and asking it could block the event loop.
enum NameNumbers {
    private static let cache = Mutex<[String: UInt32?]>([:])

    /// The number of a user in /etc/passwd; nil when there is none of that name. Remembered until `forget()`.
    static func user(_ name: String) -> UInt32? { number(of: name, in: "/etc/passwd") }

    /// The number of a group in /etc/group; nil when there is none of that name. Remembered until `forget()`.
    static func group(_ name: String) -> UInt32? { number(of: name, in: "/etc/group") }

    /// Reads the files again the next time.
    static func forget() { cache.withLock { $0 = [:] } }

    private static func number(of name: String, in file: String) -> UInt32? {
        cache.withLock { cache in
            if let known = cache[file + ":" + name] { return known }
            let found = (try? TextFile.read(file)).flatMap { number(of: name, inText: $0) }
            cache[file + ":" + name] = .some(found)
            return found
        }
    }

    /// The third field of the line that begins with the name; both files have it there.
    static func number(of name: String, inText text: String) -> UInt32? {
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            if fields.count >= 3, fields[0] == name { return UInt32(fields[2]) }
        }
        return nil
    }
}
