internal import CSystemd
public import LinuxSystem
internal import SystemPackage

/// The descriptors that the service manager passed: sockets of `tdxd.socket` and what the descriptor store kept,
/// sd_listen_fds_with_names(3). What is not taken is closed when this goes.
public struct ListenSockets: ~Copyable, Sendable {
    private var entries: [(name: String, descriptor: Int32)]

    /// Takes over what was passed, makes it close-on-exec, and removes LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES from
    /// the environment, so that it can be called once. Call it before other threads start: the environment is shared.
    /// Without a service manager there is nothing.
    public static func takeFromEnvironment() throws(LinuxError) -> ListenSockets {
        var names: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
        let count = sd_listen_fds_with_names(1, &names)
        guard count >= 0 else { throw LinuxError("sd_listen_fds_with_names", Errno(rawValue: -count)) }
        defer { tdxd_free_names(names) }
        return ListenSockets(
            entries: (0..<count).map { index in
                (name: names?[Int(index)].map { String(cString: $0) } ?? "", descriptor: 3 + index)
            })
    }

    private init(entries: [(name: String, descriptor: Int32)]) { self.entries = entries }

    deinit {
        for entry in entries { _ = OwnedDescriptor(taking: entry.descriptor) }
    }

    /// The names of what has not been taken, in the order of passing; a name may occur more than once.
    public var names: [String] { entries.map(\.name) }

    /// Takes the first descriptor of that name; nil when there is none (any more).
    public mutating func take(named name: String) -> OwnedDescriptor? {
        guard let index = entries.firstIndex(where: { $0.name == name }) else { return nil }
        return OwnedDescriptor(taking: entries.remove(at: index).descriptor)
    }

    /// Whether a descriptor is a listening Unix stream socket, bound to `path` where one is given.
    public static func isListeningUnixStream(
        _ descriptor: borrowing OwnedDescriptor, path: String? = nil
    ) throws(LinuxError) -> Bool {
        let result = sd_is_socket_unix(descriptor.rawValue, tdxd_sock_stream(), 1, path, 0)
        guard result >= 0 else { throw LinuxError("sd_is_socket_unix", Errno(rawValue: -result)) }
        return result > 0
    }
}
