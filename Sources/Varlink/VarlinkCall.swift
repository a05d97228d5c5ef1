public import LinuxSystem
internal import Synchronization

/// A call that a client made and that must be answered, from any thread.
///
/// The connection's next call is dispatched when this one has its last answer. A call that is let go without one
/// closes the connection, so that the client never waits for ever.
public final class VarlinkCall: Sendable {
    /// The full name, such as `io.example.Store.Get`.
    public let method: String
    /// The client takes several replies.
    public let wantsMore: Bool
    /// The client takes no reply at all.
    public let isOneway: Bool
    public let peer: PeerCredentials
    /// Descriptors that came with the call. Those not taken are closed with it.
    public let receivedDescriptors: ReceivedDescriptors

    private let parameters: JSONPart?
    private let state = Mutex(State())
    private let deliver: @Sendable (Outcome) -> Void

    enum Outcome: Sendable {
        case reply([UInt8], [RetainedDescriptor], continues: Bool)
        /// One of several answers; who gives the next one wants to know when the client's side has this one.
        case part([UInt8], whenTaken: @Sendable () -> Void)
        /// No answer will come.
        case abandoned
    }

    private struct State {
        var isAnswered = false
        var isCancelled = false
        var onDisconnect: [@Sendable () -> Void] = []
    }

    init(
        header: CallHeader, message: FramedMessage, peer: PeerCredentials,
        deliver: @escaping @Sendable (Outcome) -> Void
    ) {
        method = header.method
        wantsMore = header.more ?? false
        isOneway = header.oneway ?? false
        self.peer = peer
        receivedDescriptors = message.descriptors
        parameters = header.parameters
        self.deliver = deliver
    }

    deinit {
        if !state.withLock({ $0.isAnswered }) { deliver(.abandoned) }
    }

    // MARK: What was asked

    /// The parameters as a value; a call without any counts as one with an empty object.
    ///
    /// - Throws: `org.varlink.service.InvalidParameter` with the name of the parameter that is missing or of another type.
    /// - Parameter refusal: the reply to an error that a type of the parameters throws while it is decoded; nil for an
    ///   error that it does not know.
    public func parameters<Parameters: Decodable>(
        as type: Parameters.Type, refusal: (any Error) -> VarlinkErrorReply? = { _ in nil }
    ) throws(VarlinkErrorReply) -> Parameters {
        do {
            return try MessageCoding.parameters(type, parameters)
        } catch let error as DecodingError {
            throw ServiceError.invalidParameter(
                MessageCoding.fieldName(error), reason: MessageCoding.describe(error))
        } catch {
            throw refusal(error) ?? ServiceError.invalidParameter("parameters", reason: "\(error)")
        }
    }

    // MARK: Answers

    /// The last answer, with `descriptors` attached. They stay open at least until the client has them: numbers alone
    /// would not define how long that is.
    public func reply(_ parameters: some Encodable, descriptors: [RetainedDescriptor]) {
        send(parameters, descriptors, continues: false)
    }

    /// The last answer.
    public func reply(_ parameters: some Encodable = NoParameters()) {
        send(parameters, [], continues: false)
    }

    /// One of several answers. A client that did not ask for more gets only the last one: this does nothing then, so
    /// that a handler need not care.
    public func replyContinues(_ parameters: some Encodable) {
        guard wantsMore else { return }
        send(parameters, [], continues: true)
    }

    /// One of several answers, and word when the next one may come: for answers that are longer together than should ever
    /// wait for a client.
    ///
    /// - Parameter whenTaken: called once on the server's loop, when the kernel has taken all that was to be sent; at once
    ///   for a client that did not ask for more. For a client that has left it is let go without being called.
    public func replyContinues(_ parameters: some Encodable, whenTaken: @escaping @Sendable () -> Void) {
        guard wantsMore else { return whenTaken() }
        guard !state.withLock({ $0.isAnswered || $0.isCancelled }) else { return }
        do {
            deliver(.part(try MessageCoding.reply(parameters, continues: true), whenTaken: whenTaken))
        } catch {
            assertionFailure("the reply to \(method) does not encode: \(error)")
            if finish() { deliver(.abandoned) }
        }
    }

    /// The last answer: an error.
    public func fail(_ error: VarlinkErrorReply) {
        guard finish() else { return }
        deliver(.reply(isOneway ? [] : error.message, [], continues: false))
    }

    private func send(_ parameters: some Encodable, _ descriptors: [RetainedDescriptor], continues: Bool) {
        let message: [UInt8]
        do {
            message = isOneway ? [] : try MessageCoding.reply(parameters, continues: continues)
        } catch {
            // Only a number that is not finite gets here: our own mistake, and no answer to send.
            assertionFailure("the reply to \(method) does not encode: \(error)")
            if finish() { deliver(.abandoned) }
            return
        }
        if continues {
            guard !state.withLock({ $0.isAnswered || $0.isCancelled }) else { return }
        } else {
            guard finish() else { return }
        }
        deliver(.reply(message, isOneway ? [] : descriptors, continues: continues))
    }

    private func finish() -> Bool {
        state.withLock { state in
            guard !state.isAnswered else { return false }
            state.isAnswered = true
            // What the handlers capture is let go with the call's last answer.
            state.onDisconnect = []
            return true
        }
    }

    // MARK: A client that leaves

    /// The client has left: the answer will not be read. Work that makes sense without a reader may go on.
    public var isCancelled: Bool { state.withLock { $0.isCancelled } }

    /// Calls `handler` once on the server's loop if the client leaves before the last answer; at once if it has left.
    public func onDisconnect(_ handler: @escaping @Sendable () -> Void) {
        let callNow = state.withLock { state in
            guard !state.isAnswered else { return false }
            if !state.isCancelled { state.onDisconnect.append(handler) }
            return state.isCancelled
        }
        if callNow { handler() }
    }

    func cancel() {
        let handlers = state.withLock { state in
            guard !state.isAnswered, !state.isCancelled else { return [@Sendable () -> Void]() }
            state.isCancelled = true
            defer { state.onDisconnect = [] }
            return state.onDisconnect
        }
        for handler in handlers { handler() }
    }
}
