internal import CLinux
internal import Glibc
public import LinuxSystem
internal import Synchronization
internal import SystemPackage

/// A connection to a varlink service. Calls block; calls from several threads take turns.
///
/// After a time-out or a broken reply the connection is closed: what comes next could belong to the former call.
public final class VarlinkClient: Sendable {
    /// Longest that a server may stay silent in a call unless the call sets another limit.
    public static let standardTimeout = Duration.seconds(30)

    private let socket: RetainedDescriptor
    private let limits: VarlinkLimits
    private let stream: Mutex<Stream>

    private struct Stream {
        var framer: MessageFramer
        var isClosed = false
    }

    /// A reply with the descriptors that came with it.
    public struct ReplyWithDescriptors<Reply> {
        public let reply: Reply
        public let descriptors: ReceivedDescriptors
    }

    // MARK: Connecting

    /// Connects to the service at a socket path.
    ///
    /// - Parameters:
    ///   - limits: of what a reply may be: `messageBytes`, `nestingDepth`, `descriptors`.
    ///   - timeout: how long to try while the listener's queue is full.
    /// - Throws: `unavailable` where no server listens or the path may not be used; `timedOut`.
    public static func connect(
        _ path: String, limits: VarlinkLimits = VarlinkLimits(), timeout: Duration = .seconds(5)
    ) throws(VarlinkClientError) -> VarlinkClient {
        let deadline = MonotonicInstant.now + timeout
        while true {
            do throws(LinuxError) {
                return VarlinkClient(connected: try UnixSocket.connect(to: path), limits: limits)
            } catch {
                // A full queue: connect(2) on a non-blocking Unix socket cannot be waited for.
                guard error.errno == .resourceTemporarilyUnavailable else {
                    throw .unavailable(path: path, error)
                }
                guard MonotonicInstant.now < deadline else { throw .timedOut(after: timeout) }
                _ = tdxd_poll_one(-1, 0, 10)
            }
        }
    }

    /// Takes over a connected stream socket; it must be non-blocking.
    public init(connected socket: consuming OwnedDescriptor, limits: VarlinkLimits = VarlinkLimits()) {
        self.socket = RetainedDescriptor(socket)
        self.limits = limits
        stream = Mutex(
            Stream(framer: MessageFramer(messageLimit: limits.messageBytes, descriptorLimit: limits.descriptors)))
    }

    /// Who serves at the other end.
    public func peer() throws(VarlinkClientError) -> PeerCredentials {
        do { return try UnixSocket.peer(of: socket.descriptor) } catch { throw .system(error) }
    }

    /// Ends the connection from any thread; a call that waits fails with `disconnected`.
    public func close() { UnixSocket.shutdown(socket.descriptor) }

    // MARK: Calling

    /// Calls a method and waits for its one reply.
    ///
    /// - Parameters:
    ///   - method: full name, such as `io.example.Store.Get`.
    ///   - descriptors: passed along; the caller keeps its own.
    ///   - timeout: longest silence of the server. Nil: for ever.
    /// - Throws: `reply` when the server answers with an error.
    public func call<Reply: Decodable>(
        _ method: String, _ parameters: some Encodable = NoParameters(), as type: Reply.Type = Reply.self,
        descriptors: [Int32] = [], timeout: Duration? = standardTimeout
    ) throws(VarlinkClientError) -> Reply {
        try callWithDescriptors(method, parameters, as: type, descriptors: descriptors, timeout: timeout).reply
    }

    /// Calls a method whose reply brings descriptors.
    public func callWithDescriptors<Reply: Decodable>(
        _ method: String, _ parameters: some Encodable = NoParameters(), as type: Reply.Type = Reply.self,
        descriptors: [Int32] = [], timeout: Duration? = standardTimeout
    ) throws(VarlinkClientError) -> ReplyWithDescriptors<Reply> {
        try exchange { (stream: inout Stream) throws(VarlinkClientError) in
            try self.send(try encode(method, parameters), descriptors, timeout)
            let (reply, continues) = try self.receive(type, &stream, timeout)
            guard !continues else { throw .protocolViolation("several replies to a call that asked for one") }
            return reply
        }
    }

    /// Calls a method and hands over every reply as it comes, the last one included.
    ///
    /// - Parameters:
    ///   - isWanted: asked before each further reply; without it the connection is closed, which the server sees.
    ///   - onReply: must not call this client; `isLast` is true for the last reply.
    /// - Throws: `.givenUp` for what is not wanted any more.
    public func callMore<Reply: Decodable>(
        _ method: String, _ parameters: some Encodable = NoParameters(), as type: Reply.Type = Reply.self,
        descriptors: [Int32] = [], timeout: Duration? = standardTimeout, while isWanted: () -> Bool = { true },
        onReply: (_ reply: Reply, _ isLast: Bool) -> Void
    ) throws(VarlinkClientError) {
        try callMoreWithDescriptors(
            method, parameters, as: type, descriptors: descriptors, timeout: timeout, while: isWanted
        ) { onReply($0.reply, $1) }
    }

    /// As `callMore`, of a method whose replies bring descriptors.
    public func callMoreWithDescriptors<Reply: Decodable>(
        _ method: String, _ parameters: some Encodable = NoParameters(), as type: Reply.Type = Reply.self,
        descriptors: [Int32] = [], timeout: Duration? = standardTimeout, while isWanted: () -> Bool = { true },
        onReply: (_ reply: ReplyWithDescriptors<Reply>, _ isLast: Bool) -> Void
    ) throws(VarlinkClientError) {
        try exchange { (stream: inout Stream) throws(VarlinkClientError) in
            try self.send(try encode(method, parameters, more: true), descriptors, timeout)
            while true {
                let (reply, continues) = try self.receive(type, &stream, timeout)
                onReply(reply, !continues)
                if !continues { return }
                guard isWanted() else { throw .givenUp }
            }
        }
    }

    /// Calls a method and asks for no reply.
    public func callOneway(
        _ method: String, _ parameters: some Encodable = NoParameters(), descriptors: [Int32] = [],
        timeout: Duration? = standardTimeout
    ) throws(VarlinkClientError) {
        try exchange { (_: inout Stream) throws(VarlinkClientError) in
            try self.send(try encode(method, parameters, oneway: true), descriptors, timeout)
        }
    }

    // MARK: Without waiting

    /// Sends a call whose replies `posted` brings.
    /// - Parameter more: it asks for several.
    /// - Returns: false where the socket does not take all of it at once. The connection is closed then, and the server has
    ///   no whole message, so that nothing was asked.
    func post(_ method: String, _ parameters: some Encodable, more: Bool) throws(VarlinkClientError) -> Bool {
        try exchange { (stream: inout Stream) throws(VarlinkClientError) -> Bool in
            let message = try encode(method, parameters, more: more)
            if let sent = try? UnixSocket.send(message[...], descriptors: [], on: self.socket.descriptor),
                case .bytes(message.count) = sent
            {
                return true
            }
            stream.isClosed = true
            UnixSocket.shutdown(self.socket.descriptor)
            return false
        }
    }

    /// The next reply to what was posted, and whether more follow; nil while not all of it is here.
    func posted<Reply: Decodable>(
        as type: Reply.Type
    ) throws(VarlinkClientError) -> (reply: Reply, continues: Bool)? {
        try exchange { (stream: inout Stream) throws(VarlinkClientError) -> (reply: Reply, continues: Bool)? in
            guard let message = try self.nextMessage(&stream) else { return nil }
            let (reply, continues) = try self.decode(type, message)
            return (reply.reply, continues)
        }
    }

    /// What `posted` waits for can be watched on this descriptor.
    var watched: Int32 { socket.rawValue }

    /// Runs one call at a time. Only an error reply leaves the connection in order.
    private func exchange<Result>(
        _ body: (inout Stream) throws(VarlinkClientError) -> Result
    ) throws(VarlinkClientError) -> Result {
        try stream.withLock { (stream: inout sending Stream) throws(VarlinkClientError) -> Result in
            guard !stream.isClosed else { throw .disconnected }
            do throws(VarlinkClientError) {
                return try body(&stream)
            } catch {
                switch error {
                case .reply, .notEncodable: break
                default:
                    stream.isClosed = true
                    UnixSocket.shutdown(socket.descriptor)
                }
                throw error
            }
        }
    }

    // MARK: The wire

    private func send(
        _ message: [UInt8], _ descriptors: [Int32], _ timeout: Duration?
    ) throws(VarlinkClientError) {
        var rest = message[...]
        var passed = descriptors
        while !rest.isEmpty {
            let sent: Sent
            do throws(LinuxError) {
                sent = try UnixSocket.send(rest, descriptors: passed, on: socket.descriptor)
            } catch {
                // A server that refuses a client sends the reason before it closes: the caller should get that.
                if error.errno == .brokenPipe || error.errno == .connectionReset { return }
                throw .system(error)
            }
            switch sent {
            case .bytes(let count):
                rest.removeFirst(count)
                passed = []
            case .wouldBlock: try wait(for: .writing, timeout)
            }
        }
    }

    private func receive<Reply: Decodable>(
        _ type: Reply.Type, _ stream: inout Stream, _ timeout: Duration?
    ) throws(VarlinkClientError) -> (ReplyWithDescriptors<Reply>, continues: Bool) {
        try decode(type, try receiveMessage(&stream, timeout))
    }

    private func decode<Reply: Decodable>(
        _ type: Reply.Type, _ message: FramedMessage
    ) throws(VarlinkClientError) -> (ReplyWithDescriptors<Reply>, continues: Bool) {
        let header: ReplyHeader
        do throws(ProtocolViolation) {
            header = try MessageCoding.header(
                ReplyHeader.self, of: message.bytes, depthLimit: limits.nestingDepth)
        } catch {
            throw .protocolViolation("\(error)")
        }
        if let name = header.error { throw .reply(VarlinkErrorReply(received: name, message: message.bytes)) }
        do {
            let reply = try MessageCoding.parameters(type, header.parameters)
            return (ReplyWithDescriptors(reply: reply, descriptors: message.descriptors), header.continues ?? false)
        } catch let error as DecodingError {
            throw .protocolViolation(MessageCoding.describe(error))
        } catch {
            throw .protocolViolation("\(error)")
        }
    }

    private func receiveMessage(
        _ stream: inout Stream, _ timeout: Duration?
    ) throws(VarlinkClientError) -> FramedMessage {
        while true {
            if let message = try nextMessage(&stream) { return message }
            try watchBriefly()
            try wait(for: .reading, timeout)
        }
    }

    /// The next message; nil where the socket would have to be waited for.
    private func nextMessage(_ stream: inout Stream) throws(VarlinkClientError) -> FramedMessage? {
        while true {
            do throws(ProtocolViolation) {
                if let message = try stream.framer.next() { return message }
            } catch {
                throw .protocolViolation("\(error)")
            }
            let received: Received
            do throws(LinuxError) {
                received = try UnixSocket.receive(
                    upTo: 1 << 16, maximumDescriptors: limits.descriptors, from: socket.descriptor)
            } catch {
                if error.errno == .connectionReset { throw .disconnected }
                throw .system(error)
            }
            switch received {
            case .wouldBlock: return nil
            case .endOfStream: throw .disconnected
            case .bytes(let bytes, let descriptors):
                do throws(ProtocolViolation) {
                    try stream.framer.append(bytes, descriptors: descriptors)
                } catch {
                    throw .protocolViolation("\(error)")
                }
            }
        }
    }

    /// How long a reply is looked out for before the thread goes to sleep.
    ///
    /// Waking an idle CPU up takes longer than many a call does: with this CPU awake, the others that the call goes through
    /// can take turns on theirs. A thread that waits for more than a short call has lost no more than this.
    private static let watch = Duration.microseconds(200)

    /// Looks out for a reply without sleeping, and leaves the CPU to whoever can use it meanwhile.
    private func watchBriefly() throws(VarlinkClientError) {
        let end = MonotonicInstant.now + Self.watch
        do throws(LinuxError) {
            while MonotonicInstant.now < end {
                if try UnixSocket.wait(for: .reading, on: socket.descriptor, until: .now) { return }
                sched_yield()
            }
        } catch {
            throw .system(error)
        }
    }

    /// Waits until the socket is ready.
    private func wait(for readiness: UnixSocket.Readiness, _ timeout: Duration?) throws(VarlinkClientError) {
        let isReady: Bool
        do throws(LinuxError) {
            isReady = try UnixSocket.wait(
                for: readiness, on: socket.descriptor, until: timeout.map { MonotonicInstant.now + $0 })
        } catch {
            throw .system(error)
        }
        if !isReady, let timeout { throw .timedOut(after: timeout) }
    }
}

private func encode(
    _ method: String, _ parameters: some Encodable, more: Bool = false, oneway: Bool = false
) throws(VarlinkClientError) -> [UInt8] {
    do {
        return try MessageCoding.call(method, parameters, more: more, oneway: oneway)
    } catch {
        throw .notEncodable("\(error)")
    }
}
