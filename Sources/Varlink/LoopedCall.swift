public import LinuxSystem

extension VarlinkClient {
    /// Calls a method that answers once, and has an event loop wait for the answer. Nothing blocks; on the loop's thread.
    ///
    /// Until `then` was called, this client has no other user.
    /// - Parameters:
    ///   - timeout: longest silence of the server.
    ///   - then: called once on the loop, not before this returns: with the reply, or as `call` throws. After all but a reply or
    ///     an error reply the connection is closed.
    /// - Returns: false where the call cannot be sent at once. Nothing was asked then, `then` is not called, and the connection
    ///   is closed.
    public func call<Reply: Decodable & Sendable>(
        _ method: String, _ parameters: some Encodable, as type: Reply.Type = Reply.self, timeout: Duration,
        on loop: EventLoop, then: @escaping (Result<Reply, VarlinkClientError>) -> Void
    ) -> Bool {
        start(method, parameters, more: false, timeout: timeout, on: loop, onStep: { _ in }, then: then)
    }

    /// As `call`, of a method that may answer several times.
    ///
    /// - Parameters:
    ///   - timeout: longest silence of the server, before each of its answers.
    ///   - onStep: called on the loop with each reply but the last, which `then` gets.
    public func callMore<Reply: Decodable & Sendable>(
        _ method: String, _ parameters: some Encodable, as type: Reply.Type = Reply.self, timeout: Duration,
        on loop: EventLoop, onStep: @escaping (Reply) -> Void,
        then: @escaping (Result<Reply, VarlinkClientError>) -> Void
    ) -> Bool {
        start(method, parameters, more: true, timeout: timeout, on: loop, onStep: onStep, then: then)
    }

    private func start<Reply: Decodable & Sendable>(
        _ method: String, _ parameters: some Encodable, more: Bool, timeout: Duration, on loop: EventLoop,
        onStep: @escaping (Reply) -> Void, then: @escaping (Result<Reply, VarlinkClientError>) -> Void
    ) -> Bool {
        let call = LoopedCall(self, more: more, timeout: timeout, loop, onStep, then)
        // Watched first: the answer to what was sent must find a reader.
        guard call.watch() else {
            close()
            return false
        }
        guard (try? post(method, parameters, more: more)) == true else {
            call.end()
            close()
            return false
        }
        call.limit()
        return true
    }
}

/// A call whose answers an event loop waits for. Its watch keeps it. Confined to the loop's thread.
private final class LoopedCall<Reply: Decodable & Sendable> {
    private let client: VarlinkClient
    private let isMore: Bool
    private let timeout: Duration
    private let loop: EventLoop
    private let onStep: (Reply) -> Void
    private let then: (Result<Reply, VarlinkClientError>) -> Void
    private var watched: EventLoop.Watch?
    private var timer: LoopTimer?

    init(
        _ client: VarlinkClient, more: Bool, timeout: Duration, _ loop: EventLoop, _ onStep: @escaping (Reply) -> Void,
        _ then: @escaping (Result<Reply, VarlinkClientError>) -> Void
    ) {
        self.client = client
        isMore = more
        self.timeout = timeout
        self.loop = loop
        self.onStep = onStep
        self.then = then
    }

    /// - Returns: whether the loop could take it.
    func watch() -> Bool {
        watched = try? loop.watch(client.watched, for: .readable) { [self] _ in look() }
        return watched != nil
    }

    /// From now on the server may be silent for as long as the time-out.
    func limit() {
        timer?.cancel()
        timer = loop.schedule(after: timeout) { [self] in
            client.close()
            finish(.failure(.timedOut(after: timeout)))
        }
    }

    private func look() {
        do throws(VarlinkClientError) {
            while let (reply, continues) = try client.posted(as: Reply.self) {
                guard continues else { return finish(.success(reply)) }
                guard isMore else {
                    client.close()
                    throw .protocolViolation("several replies to a call that asked for one")
                }
                limit()
                onStep(reply)
            }
        } catch {
            finish(.failure(error))
        }
    }

    private func finish(_ result: Result<Reply, VarlinkClientError>) {
        guard watched != nil else { return }
        end()
        then(result)
    }

    func end() {
        watched?.cancel()
        watched = nil
        timer?.cancel()
        timer = nil
    }
}
