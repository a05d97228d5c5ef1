public import LinuxSystem

extension VarlinkClient {
    /// Calls a method that answers once, and has an event loop wait for the answer. Nothing blocks; on the loop's thread.
    ///
    /// Until `then` was called, nobody else may use this client.
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
        let call = LoopedCall(self, then)
        // Watched first: what was sent must find somebody who listens for the answer.
        guard call.watch(on: loop) else {
            close()
            return false
        }
        guard (try? post(method, parameters)) == true else {
            call.end()
            close()
            return false
        }
        call.limit(to: timeout, on: loop)
        return true
    }
}

/// A call whose answer an event loop waits for. Its watch keeps it. Confined to the loop's thread.
private final class LoopedCall<Reply: Decodable & Sendable> {
    private let client: VarlinkClient
    private let then: (Result<Reply, VarlinkClientError>) -> Void
    private var watch: EventLoop.Watch?
    private var timer: LoopTimer?

    init(_ client: VarlinkClient, _ then: @escaping (Result<Reply, VarlinkClientError>) -> Void) {
        self.client = client
        self.then = then
    }

    /// - Returns: whether the loop could take it.
    func watch(on loop: EventLoop) -> Bool {
        watch = try? loop.watch(client.watched, for: .readable) { [self] _ in look() }
        return watch != nil
    }

    func limit(to timeout: Duration, on loop: EventLoop) {
        timer = loop.schedule(after: timeout) { [self] in
            client.close()
            finish(.failure(.timedOut(after: timeout)))
        }
    }

    private func look() {
        do throws(VarlinkClientError) {
            if let reply = try client.posted(as: Reply.self) { finish(.success(reply)) }
        } catch {
            finish(.failure(error))
        }
    }

    private func finish(_ result: Result<Reply, VarlinkClientError>) {
        guard watch != nil else { return }
        end()
        then(result)
    }

    func end() {
        watch?.cancel()
        watch = nil
        timer?.cancel()
        timer = nil
    }
}
