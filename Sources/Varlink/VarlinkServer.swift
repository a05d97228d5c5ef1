public import LinuxSystem
internal import SystemPackage

/// What `org.varlink.service.GetInfo` returns about a program.
public struct ServiceIdentity: Sendable {
    public var vendor: String
    public var product: String
    public var version: String
    public var url: String

    public init(vendor: String, product: String, version: String, url: String) {
        self.vendor = vendor
        self.product = product
        self.version = version
        self.url = url
    }
}

/// Serves varlink interfaces on Unix sockets from one event loop.
///
/// Handlers run on the loop's thread and must not block; they may answer later and from any thread. All other methods
/// belong to the loop's thread, or to whoever sets the server up before the loop runs.
public final class VarlinkServer: @unchecked Sendable {
    // Why @unchecked is sound: everything mutable is touched on the loop's thread only; the loop traps otherwise, and
    // other threads reach the server through `EventLoop.perform`.
    public typealias Handler = @Sendable (VarlinkCall) -> Void

    /// Why a client is turned away by an error that belongs to no call.
    public enum Refusal: Sendable {
        case violation(ProtocolViolation)
        case tooManyConnections(limit: Int, perUser: Bool)
        /// The service has no share for this client.
        case notAdmitted(PeerCredentials)
        /// Its user's clients have left so much unread that this answer has no room.
        case tooMuchUnread(limitBytes: Int)
    }

    let loop: EventLoop
    let limits: VarlinkLimits
    private let identity: ServiceIdentity
    private let makeRefusal: @Sendable (Refusal) -> VarlinkErrorReply
    private let shareOf: @Sendable (PeerCredentials) -> ClientShare?
    private var interfaces: [String: Registered] = [:]
    private var interfaceOrder: [String] = []
    private var listeners: [Listener] = []
    private var connections: [UInt64: ServerConnection] = [:]
    private var nextConnection: UInt64 = 1
    /// Key: the user. Bytes of answers that its clients have not read yet.
    private var unread: [UInt32: Int] = [:]
    /// Clients that were turned away and have yet to read why.
    private var leaving: [UInt64: RetainedDescriptor] = [:]
    /// Most clients that are waited for so; further ones are closed at once.
    private var mostLeaving: Int { limits.connections }
    private static let timeToLeave = Duration.seconds(1)

    /// Called on the loop's thread when a connection has ended.
    public var onClose: (@Sendable (PeerCredentials, CloseReason) -> Void)?

    private struct Registered {
        var interface: VarlinkInterface
        var handlers: [String: Handler]
    }

    private final class Listener {
        let socket: RetainedDescriptor
        var watch: EventLoop.Watch?
        init(_ socket: RetainedDescriptor) { self.socket = socket }
    }

    /// - Parameter refusal: what a client gets that broke the protocol or that there are too many; the service's
    ///   own interface may have better errors than the default, `org.varlink.service.InvalidParameter`.
    /// - Parameter share: what a client may have, asked on the loop's thread when it connects; nil for one that is not
    ///   admitted. Without it every client has `limits`.
    public init(
        loop: EventLoop, identity: ServiceIdentity, limits: VarlinkLimits = VarlinkLimits(),
        refusal: @escaping @Sendable (Refusal) -> VarlinkErrorReply = VarlinkServer.standardRefusal,
        share: (@Sendable (PeerCredentials) -> ClientShare?)? = nil
    ) {
        self.loop = loop
        self.identity = identity
        self.limits = limits
        makeRefusal = refusal
        let common = limits.commonShare
        shareOf = share ?? { _ in common }
        registerStandardInterface()
    }

    /// `org.varlink.service.InvalidParameter` for the parameter `message` or `connection`, with a reason.
    public static let standardRefusal: @Sendable (Refusal) -> VarlinkErrorReply = { refusal in
        switch refusal {
        case .violation(let violation): ServiceError.invalidParameter("message", reason: violation.description)
        case .tooManyConnections(let limit, let perUser):
            ServiceError.invalidParameter(
                "connection", reason: "more than \(limit) connections\(perUser ? " of one user" : "")")
        case .notAdmitted(let peer):
            ServiceError.invalidParameter("connection", reason: "user \(peer.uid) is not admitted")
        case .tooMuchUnread(let limit):
            ServiceError.invalidParameter(
                "connection", reason: "more than \(limit) bytes of one user's answers are unread")
        }
    }

    // MARK: Setting up

    /// Serves an interface.
    ///
    /// - Parameters:
    ///   - description: the text of its `.varlink` file.
    ///   - handlers: by the method's short name. A method without one answers MethodNotImplemented. Parameters are
    ///     checked against the description before a handler sees them.
    /// - Throws: `InterfaceError` when the text does not parse or a handler has no method.
    public func register(_ description: String, handlers: [String: Handler]) throws(InterfaceError) {
        let interface = try VarlinkInterface(parsing: description)
        for name in handlers.keys where interface.methods[name] == nil {
            throw InterfaceError(line: 0, reason: "\(interface.name) has no method “\(name)” to handle")
        }
        if interfaces.updateValue(Registered(interface: interface, handlers: handlers), forKey: interface.name) == nil {
            interfaceOrder.append(interface.name)
        }
    }

    /// Accepts connections from a listening socket from now on.
    ///
    /// The socket is made non-blocking whoever opened it: one that waits would stop the loop at its first client.
    public func listen(on socket: consuming OwnedDescriptor) throws(LinuxError) {
        try UnixSocket.makeNonBlocking(socket)
        let listener = Listener(RetainedDescriptor(socket))
        listener.watch = try loop.watch(listener.socket.rawValue, for: .readable) {
            [unowned self, unowned listener] _ in
            self.accept(from: listener)
        }
        listeners.append(listener)
    }

    /// Accepts no more connections and closes the listening sockets; connections go on.
    public func stopListening() {
        for listener in listeners { listener.watch?.cancel() }
        listeners = []
    }

    /// Stops listening and ends every connection. Calls under way are cancelled.
    public func close() {
        stopListening()
        for connection in Array(connections.values) { connection.close(.serverClosed) }
        leaving = [:]
    }

    /// Whether an answer waits for its client to take it. A program that ends after its last answer waits until none does.
    public var hasUnsentReplies: Bool { connections.values.contains(where: \.hasUnsentOutput) }

    // MARK: Connections

    private func accept(from listener: Listener) {
        // Bounded, so that a flood of clients leaves the loop some time for those that are in.
        for _ in 0..<16 {
            do throws(LinuxError) {
                guard let socket = try UnixSocket.accept(from: listener.socket.descriptor) else { return }
                try admit(socket)
            } catch {
                leaving = [:]
                // Out of descriptors or memory: the listener stays ready, so look again only after a while.
                guard let watch = listener.watch else { return }
                watch.change(to: [])
                loop.schedule(after: .milliseconds(100)) { watch.change(to: .readable) }
                return
            }
        }
    }

    private func admit(_ socket: consuming OwnedDescriptor) throws(LinuxError) {
        let peer = try UnixSocket.peer(of: socket)
        guard let share = shareOf(peer) else {
            return turnAway(socket, peer, .notAdmitted(peer), .notAdmitted)
        }
        let held = connections.values.map(\.place)
        switch ConnectionPlaces.decide(uid: peer.uid, share: share, total: limits.connections, held: held) {
        case .admit: break
        case .replace(let id): connections[id]?.close(.crowded(perUser: false))
        case .turnAway(let limit, let perUser):
            return turnAway(
                socket, peer, .tooManyConnections(limit: limit, perUser: perUser), .crowded(perUser: perUser))
        }
        let id = takeNumber()
        connections[id] = try ServerConnection(id: id, socket: socket, peer: peer, share: share, server: self)
    }

    private func takeNumber() -> UInt64 {
        defer { nextConnection += 1 }
        return nextConnection
    }

    /// Sends a client the reason why it is not served. Its socket stays for a moment: were it closed at once, a client that sends its
    /// first call would meet a broken pipe before it reads the reason.
    private func turnAway(
        _ socket: consuming OwnedDescriptor, _ peer: PeerCredentials, _ refusal: Refusal, _ reason: CloseReason
    ) {
        // A fresh socket has room for it; a client that is gone already needs none.
        _ = try? UnixSocket.send(makeRefusal(refusal).message[...], on: socket)
        UnixSocket.shutdownWriting(socket)
        onClose?(peer, reason)
        guard leaving.count < mostLeaving else { return }
        let number = takeNumber()
        leaving[number] = RetainedDescriptor(socket)
        loop.schedule(after: Self.timeToLeave) { [weak self] in self?.leaving[number] = nil }
    }

    func closed(_ connection: ServerConnection, _ reason: CloseReason) {
        guard connections.removeValue(forKey: connection.id) != nil else { return }
        onClose?(connection.peer, reason)
    }

    /// Ends the connections of clients that would not be admitted any more, as after a change of who may what.
    public func dismissThoseWithoutShare() {
        for connection in Array(connections.values) where shareOf(connection.peer) == nil {
            connection.close(.notAdmitted)
        }
    }

    /// Bytes that clients of a user have not read yet.
    func unreadBytes(of uid: UInt32) -> Int { unread[uid, default: 0] }

    /// A connection's queue has grown or shrunk.
    func unreadChanged(of uid: UInt32, by difference: Int) {
        let bytes = unread[uid, default: 0] + difference
        unread[uid] = bytes > 0 ? bytes : nil
    }

    func refusal(_ refusal: Refusal) -> VarlinkErrorReply { makeRefusal(refusal) }

    // MARK: Calls

    func deliver(_ outcome: VarlinkCall.Outcome, call: UInt64, connection: UInt64) {
        connections[connection]?.answered(call: call, outcome)
    }

    func handle(_ call: VarlinkCall, parameters: JSONPart?, upgrade: Bool) {
        guard !upgrade else { return call.fail(ServiceError.invalidParameter("upgrade", reason: "not supported")) }
        guard let (interfaceName, method) = splitMember(call.method), let registered = interfaces[interfaceName] else {
            let name = splitMember(call.method)?.interface ?? call.method
            return call.fail(ServiceError.interfaceNotFound(name))
        }
        guard let declared = registered.interface.methods[method] else {
            return call.fail(ServiceError.methodNotFound(call.method))
        }
        guard let handler = registered.handlers[method] else {
            return call.fail(ServiceError.methodNotImplemented(call.method))
        }
        // A misspelt optional parameter would otherwise pass for one that was left out.
        do throws(TypeMismatch) {
            try registered.interface.check(parameters, against: declared.parameters)
        } catch {
            return call.fail(ServiceError.invalidParameter(error.field, reason: "\(error)"))
        }
        handler(call)
    }

    private func registerStandardInterface() {
        do {
            try register(
                standardInterfaceText,
                handlers: [
                    "GetInfo": { [unowned self] call in call.reply(self.info) },
                    "GetInterfaceDescription": { [unowned self] call in self.describe(call) },
                ])
        } catch {
            preconditionFailure("\(error)")
        }
    }

    private var info: ServiceInfo {
        ServiceInfo(
            vendor: identity.vendor, product: identity.product, version: identity.version, url: identity.url,
            interfaces: interfaceOrder)
    }

    private func describe(_ call: VarlinkCall) {
        do throws(VarlinkErrorReply) {
            let name = try call.parameters(as: [String: String].self)["interface"]
            guard let name else { throw ServiceError.invalidParameter("interface", reason: "“interface” is missing") }
            guard let found = interfaces[name] else { throw ServiceError.interfaceNotFound(name) }
            call.reply(["description": found.interface.text])
        } catch {
            call.fail(error)
        }
    }
}

/// The reply of `org.varlink.service.GetInfo`.
public struct ServiceInfo: Codable, Hashable, Sendable {
    public var vendor: String
    public var product: String
    public var version: String
    public var url: String
    public var interfaces: [String]
}

let standardInterfaceText = """
    # The interface that every varlink service has.
    interface org.varlink.service

    # Who serves here, and which interfaces.
    method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)

    # The text of an interface that GetInfo lists.
    method GetInterfaceDescription(interface: string) -> (description: string)

    error InterfaceNotFound (interface: string)
    error MethodNotFound (method: string)
    error MethodNotImplemented (method: string)
    error InvalidParameter (parameter: string)

    """
