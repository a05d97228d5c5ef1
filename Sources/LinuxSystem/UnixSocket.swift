internal import CLinux
internal import Glibc
internal import SystemPackage

/// Who is at the other end of a Unix socket, as the kernel noted when the connection was made.
public struct PeerCredentials: Sendable {
    public let uid: UInt32
    public let gid: UInt32
    public let pid: Int32
    /// Supplementary groups (SO_PEERGROUPS), of which `gid` need not be one; empty where they are not to be had.
    public let groups: [UInt32]
    /// Refers to the peer's process; nil when that had ended. SO_PEERPIDFD (Linux 6.5) means the process that connected
    /// and no later one of the same number. On older kernels it is pidfd_open(2) of the number, which only means that
    /// if the process still lived; see `isPIDFDCertain`.
    public let pidfd: RetainedDescriptor?
    public let isPIDFDCertain: Bool

    public init(
        uid: UInt32, gid: UInt32, pid: Int32, groups: [UInt32] = [], pidfd: RetainedDescriptor?,
        isPIDFDCertain: Bool = true
    ) {
        self.isPIDFDCertain = isPIDFDCertain
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.groups = groups
        self.pidfd = pidfd
    }
}

extension PeerCredentials {
    /// Whether this kernel has SO_PEERPIDFD.
    public static let kernelHasPIDFD: Bool = {
        guard let pair = try? UnixSocket.pair() else { return false }
        return tdxd_pidfd_is_given(pair.first.rawValue)
    }()

    /// What /proc calls the peer's program (up to 15 bytes, chosen by the program itself); nil once it has ended, or
    /// where it is not to be seen. Read between two looks at whether the process lives, so that it is never another's.
    public var programName: String? {
        guard let pidfd, pid > 0, let name = try? TextFile.read("/proc/\(pid)/comm", limit: 64) else { return nil }
        // A pidfd is readable once its process has ended; the number cannot have gone to another one before.
        guard tdxd_poll_readable(pidfd.rawValue, 0) == 0 else { return nil }
        return String(name.prefix { !$0.isNewline })
    }
}

private func tdxd_pidfd_is_given(_ socket: Int32) -> Bool {
    let number = tdxd_peer_pidfd(socket)
    if number >= 0 { _ = OwnedDescriptor(taking: number) }
    return number != -ENOPROTOOPT
}

/// What one look at a socket brought.
public enum Received: Sendable {
    /// Bytes (never none) and the descriptors that came with the last of them.
    case bytes([UInt8], ReceivedDescriptors)
    case wouldBlock
    case endOfStream
}

/// What one attempt to send did.
public enum Sent: Sendable, Hashable {
    case bytes(Int)
    case wouldBlock
}

/// Unix stream sockets. All of them are close-on-exec and non-blocking.
public enum UnixSocket {
    /// Longest socket path in bytes.
    public static var maximumPathLength: Int { tdxd_unix_path_max() }
    /// Most descriptors in one message (SCM_MAX_FD).
    public static var maximumDescriptors: Int { Int(TDXD_SCM_MAX_FD) }

    /// Listens on `path`. A socket file that no process listens on any more is replaced; one that answers is not, and
    /// the error is `EADDRINUSE`. Two processes that start at the same moment are kept apart by rename(2): the file is
    /// bound under a name of its own and moved into place.
    ///
    /// - Parameter mode: permission bits of the socket file, in place before the first client can connect.
    /// - Throws: `ENAMETOOLONG` for a path of more than `maximumPathLength` bytes, `EEXIST` where a file that is not a
    ///   socket is in the way, and what socket(2), bind(2), listen(2) and chmod(2) give.
    public static func listen(
        at path: String, mode: UInt32 = 0o666, backlog: Int32 = 128
    ) throws(LinuxError) -> OwnedDescriptor {
        try checkPath(path, for: "bind", reserve: temporarySuffix.utf8.count)
        var status = stat()
        if lstat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFSOCK else { throw LinuxError("bind", .fileExists, detail: path) }
            if isAnswering(path) { throw LinuxError("bind", .addressInUse, detail: path) }
        }
        let socket = OwnedDescriptor(taking: try LinuxError.check(tdxd_unix_stream_socket(), "socket"))
        let temporary = path + temporarySuffix
        _ = unlink(temporary)
        try LinuxError.check(tdxd_unix_bind(socket.rawValue, temporary), "bind", path)
        do throws(LinuxError) {
            guard chmod(temporary, mode_t(mode)) == 0 else { throw LinuxError("chmod", lastErrno, detail: path) }
            try LinuxError.check(tdxd_listen(socket.rawValue, backlog), "listen", path)
            guard rename(temporary, path) == 0 else { throw LinuxError("rename", lastErrno, detail: path) }
        } catch {
            _ = unlink(temporary)
            throw error
        }
        return socket
    }

    /// Connects to `path`.
    ///
    /// - Throws: `ENOENT` or `ECONNREFUSED` where no process listens, `EAGAIN` where the listener's queue is full.
    public static func connect(to path: String) throws(LinuxError) -> OwnedDescriptor {
        try checkPath(path, for: "connect", reserve: 0)
        let socket = OwnedDescriptor(taking: try LinuxError.check(tdxd_unix_stream_socket(), "socket"))
        var result = tdxd_unix_connect(socket.rawValue, path)
        while result == -EINTR { result = tdxd_unix_connect(socket.rawValue, path) }
        try LinuxError.check(result, "connect", path)
        return socket
    }

    /// Whether a process listens on the socket file at `path`.
    public static func isAnswering(_ path: String) -> Bool {
        do throws(LinuxError) {
            _ = try connect(to: path)
            return true
        } catch {
            // A full queue is an answer too: there is a listener.
            return error.errno == .resourceTemporarilyUnavailable
        }
    }

    /// Two connected sockets.
    public static func pair() throws(LinuxError) -> SocketPair {
        var numbers: [Int32] = [-1, -1]
        try LinuxError.check(tdxd_unix_stream_pair(&numbers), "socketpair")
        return SocketPair(first: OwnedDescriptor(taking: numbers[0]), second: OwnedDescriptor(taking: numbers[1]))
    }

    /// Two connected sockets whose messages keep their borders (SOCK_SEQPACKET): what one `send` gave, one `receive`
    /// takes, cut off at its limit.
    public static func packetPair() throws(LinuxError) -> SocketPair {
        var numbers: [Int32] = [-1, -1]
        try LinuxError.check(tdxd_unix_packet_pair(&numbers), "socketpair(SOCK_SEQPACKET)")
        return SocketPair(first: OwnedDescriptor(taking: numbers[0]), second: OwnedDescriptor(taking: numbers[1]))
    }

    /// What a socket is waited for.
    public enum Readiness: Sendable {
        /// There is something to read, or the other end is closed.
        case reading
        case writing
    }

    /// Waits until the socket is ready, or broken, which the next call reports.
    /// - Parameter deadline: nil for none.
    /// - Returns: false when the time is up.
    public static func wait(
        for readiness: Readiness, on socket: borrowing OwnedDescriptor, until deadline: MonotonicInstant?
    ) throws(LinuxError) -> Bool {
        // POLLIN and POLLOUT.
        let events: Int16 = readiness == .reading ? 1 : 4
        while true {
            let result = tdxd_poll_one(socket.rawValue, events, deadline?.pollTimeout(from: .now) ?? -1)
            if result == -EINTR { continue }
            return try LinuxError.check(result, "poll") != 0
        }
    }

    /// Takes over a descriptor that another program opened, such as one from socket activation.
    ///
    /// - Throws: `ENOTSOCK` unless it is a listening stream socket.
    public static func adoptListener(_ number: Int32) throws(LinuxError) -> OwnedDescriptor {
        guard tdxd_is_listening_stream(number) == 1 else {
            throw LinuxError("getsockopt(SO_ACCEPTCONN)", Errno(rawValue: ENOTSOCK), detail: "descriptor \(number)")
        }
        try LinuxError.check(tdxd_set_cloexec_nonblock(number), "fcntl(F_SETFL)", "descriptor \(number)")
        return OwnedDescriptor(taking: number)
    }

    /// O_NONBLOCK and close-on-exec. The first is the open file's, whoever else holds it.
    public static func makeNonBlocking(_ socket: borrowing OwnedDescriptor) throws(LinuxError) {
        try LinuxError.check(
            tdxd_set_cloexec_nonblock(socket.rawValue), "fcntl(F_SETFL)", "descriptor \(socket.rawValue)")
    }

    /// The next waiting connection; nil when there is none.
    public static func accept(
        from listener: borrowing OwnedDescriptor
    ) throws(LinuxError) -> OwnedDescriptor? {
        while true {
            let result = tdxd_accept(listener.rawValue)
            switch -result {
            case EINTR, ECONNABORTED: continue
            case EAGAIN: return nil
            default: return OwnedDescriptor(taking: try LinuxError.check(result, "accept4"))
            }
        }
    }

    /// Sends as much as fits without waiting, with `descriptors` attached to the first byte.
    ///
    /// - Throws: `EPIPE` or `ECONNRESET` when the peer is gone.
    public static func send(
        _ bytes: ArraySlice<UInt8>, descriptors: [Int32] = [], on socket: borrowing OwnedDescriptor
    ) throws(LinuxError) -> Sent {
        precondition(!bytes.isEmpty, "nothing to send")
        while true {
            let result = bytes.withUnsafeBufferPointer { buffer in
                tdxd_send(socket.rawValue, buffer.baseAddress, buffer.count, descriptors, Int32(descriptors.count))
            }
            switch -result {
            case Int(EINTR): continue
            case Int(EAGAIN): return .wouldBlock
            default: return .bytes(Int(try LinuxError.check(result, "sendmsg")))
            }
        }
    }

    /// Takes what has arrived, without waiting: at most `limit` bytes and `maximumDescriptors` descriptors.
    ///
    /// The descriptors belong to the message that the last received byte is part of: the kernel ends a read after
    /// the bytes that descriptors came with.
    ///
    /// - Throws: `EMSGSIZE` when descriptors were lost for want of room (MSG_CTRUNC); `ECONNRESET` when the peer is
    ///   gone.
    public static func receive(
        upTo limit: Int, maximumDescriptors: Int = 0, from socket: borrowing OwnedDescriptor
    ) throws(LinuxError) -> Received {
        precondition(limit > 0)
        let capacity = min(maximumDescriptors, Self.maximumDescriptors)
        var numbers = [Int32](repeating: -1, count: max(capacity, 1))
        var count: Int32 = 0
        var truncated: Int32 = 0
        var result = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, initialized in
            repeat {
                result = tdxd_receive(
                    socket.rawValue, buffer.baseAddress, limit, &numbers, Int32(capacity), &count, &truncated)
            } while result == -Int(EINTR)
            initialized = max(result, 0)
        }
        let descriptors = ReceivedDescriptors(taking: Array(numbers.prefix(Int(count))))
        if result == -Int(EAGAIN) { return .wouldBlock }
        try LinuxError.check(result, "recvmsg")
        guard truncated == 0 else { throw LinuxError("recvmsg", .messageTooLong, detail: "passed descriptors") }
        return bytes.isEmpty ? .endOfStream : .bytes(bytes, descriptors)
    }

    /// SO_PEERCRED, and SO_PEERPIDFD where the kernel has it, or else pidfd_open(2).
    public static func peer(of socket: borrowing OwnedDescriptor) throws(LinuxError) -> PeerCredentials {
        var raw = tdxd_peer()
        try LinuxError.check(tdxd_peer_credentials(socket.rawValue, &raw), "getsockopt(SO_PEERCRED)")
        let certain = tdxd_peer_pidfd(socket.rawValue)
        // ENOPROTOOPT: before Linux 6.5. Anything else means that the process is gone.
        let isCertain = certain != -ENOPROTOOPT
        let pidfd = isCertain ? certain : tdxd_pidfd_open(raw.pid)
        var groups = [UInt32](repeating: 0, count: 1024)
        let count = tdxd_peer_groups(socket.rawValue, &groups, Int32(groups.count))
        return PeerCredentials(
            uid: raw.uid, gid: raw.gid, pid: raw.pid, groups: Array(groups.prefix(Int(max(count, 0)))),
            pidfd: pidfd < 0 ? nil : RetainedDescriptor(OwnedDescriptor(taking: pidfd)), isPIDFDCertain: isCertain)
    }

    /// Ends both directions; whoever waits on either end wakes up.
    public static func shutdown(_ socket: borrowing OwnedDescriptor) { _ = tdxd_shutdown(socket.rawValue) }

    /// Ends the sending direction: the peer reads end-of-stream once it has read what was sent.
    public static func shutdownWriting(_ socket: borrowing OwnedDescriptor) { _ = tdxd_shutdown_write(socket.rawValue) }

    private static var temporarySuffix: String { ".\(getpid())" }

    private static func checkPath(_ path: String, for call: String, reserve: Int) throws(LinuxError) {
        guard !path.isEmpty, !path.utf8.contains(0) else {
            throw LinuxError(call, .invalidArgument, detail: path)
        }
        guard path.utf8.count + reserve <= maximumPathLength else {
            throw LinuxError(call, .fileNameTooLong, detail: path)
        }
    }
}

/// Both ends of a socketpair(2).
public struct SocketPair: ~Copyable, Sendable {
    public let first: OwnedDescriptor
    public let second: OwnedDescriptor

    /// Hands the first end to its owner and closes the second.
    public consuming func takeFirst() -> OwnedDescriptor { first }

    /// Hands both ends to their owners.
    public consuming func split(
        _ body: (consuming OwnedDescriptor, consuming OwnedDescriptor) throws -> Void
    ) rethrows {
        try body(first, second)
    }
}

private var lastErrno: Errno { Errno(rawValue: errno) }
