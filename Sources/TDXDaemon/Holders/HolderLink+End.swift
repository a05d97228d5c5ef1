internal import ControlInterface
internal import DomainEnd
internal import LinuxSystem
internal import Synchronization
internal import Terms
internal import Varlink

/// Why a holder did not do its part of an end.
struct HolderCallFailed: Error {
    var kind: CallFailure
    var error: ControlError
}

/// Connections to a holder that no client's call can take: one for the call that ends the TD, one for what is asked meanwhile.
/// They are made while there is room for them, when tdxd takes the TD over.
final class ReservedConnections: Sendable {
    static let most = 2

    private let clients = Mutex<[VarlinkClient]>([])

    func fill(_ connect: () -> VarlinkClient?) {
        while clients.withLock({ $0.count }) < Self.most {
            guard let client = connect() else { return }
            putBack(client)
        }
    }

    func take() -> VarlinkClient? { clients.withLock { $0.popLast() } }

    func putBack(_ client: VarlinkClient) {
        clients.withLock { clients in
            if clients.count < Self.most { clients.append(client) }
        }
    }
}

/// The end of a TD: calls that wait on the event loop, so that no thread waits with them. On the loop's thread.
extension HolderLink {
    /// Makes the connections that are kept for the end. From any thread.
    func reserveConnections() {
        guard case .path(let socket) = source else { return }
        reserved.fill { try? VarlinkClient.connect(socket, limits: Self.limits, timeout: .zero) }
    }

    /// Asks the holder to end the TD as far as its memory, which the holder keeps.
    /// - Parameters:
    ///   - silence: how long nothing may be heard.
    ///   - then: called once, with an answer that is checked.
    func askToHalt(
        _ policy: StopPolicy, silence: Duration, on loop: EventLoop, progress: @escaping (Progress) -> Void,
        then: @escaping (Result<HolderInterface.Stop.Reply, HolderCallFailed>) -> Void
    ) {
        ask(
            HolderInterface.Stop.method, HolderInterface.Stop.Parameters(policy: policy, hold: true), silence,
            loop, progress, then)
    }

    /// Asks the holder to give the memory of a TD back that was halted, and to end.
    func askForMemory(
        _ parameters: HolderInterface.Reclaim.Parameters, silence: Duration, on loop: EventLoop,
        progress: @escaping (Progress) -> Void,
        then: @escaping (Result<HolderInterface.Stop.Reply, HolderCallFailed>) -> Void
    ) {
        ask(HolderInterface.Reclaim.method, parameters, silence, loop, progress, then)
    }

    private func ask(
        _ method: String, _ parameters: some Encodable, _ silence: Duration, _ loop: EventLoop,
        _ progress: @escaping (Progress) -> Void,
        _ then: @escaping (Result<HolderInterface.Stop.Reply, HolderCallFailed>) -> Void
    ) {
        guard let client = takeReserved() else { return then(.failure(notConnected)) }
        let isAsked = client.callMore(
            method, parameters, as: HolderInterface.Stop.Reply.self, timeout: silence, on: loop,
            onStep: { [self] step in
                if let step = step.progress, (try? claims.check(step)) != nil { progress(step) }
            },
            then: { [self] result in
                then(
                    answer(result, client) { (reply) throws(ControlError) in
                        guard reply.phases != nil else { throw incomplete(method) }
                        try checking { () throws(Refusal) in try claims.check(reply) }
                    })
            })
        if !isAsked { then(.failure(notConnected)) }
    }

    /// Asks the holder how far it is.
    func askForProgress(
        timeout: Duration, on loop: EventLoop,
        then: @escaping (Result<HolderInterface.Description, HolderCallFailed>) -> Void
    ) {
        guard let client = takeReserved() else { return then(.failure(notConnected)) }
        let isAsked = client.call(
            HolderInterface.Describe.method, NoParameters(), as: HolderInterface.Describe.Reply.self, timeout: timeout,
            on: loop
        ) { [self] result in
            let checked = answer(result, client) { (reply) throws(ControlError) in
                try checking { () throws(Refusal) in try claims.check(reply.description) }
            }
            then(checked.map(\.description))
        }
        if !isAsked { then(.failure(notConnected)) }
    }

    /// Asks the holder to give memory back at another pace. What it answers changes nothing.
    func askForPace(_ bytesPerSecond: UInt64?, timeout: Duration, on loop: EventLoop) {
        guard let client = takeReserved() else { return }
        _ = client.call(
            HolderInterface.SetPace.method, HolderInterface.SetPace.Parameters(bytesPerSecond: bytesPerSecond),
            as: NoParameters.self, timeout: timeout, on: loop
        ) { [self] result in
            if case .success = result { putReservedBack(client) }
        }
    }

    private func takeReserved() -> VarlinkClient? {
        switch source {
        case .path(let socket):
            reserved.take() ?? (try? VarlinkClient.connect(socket, limits: Self.limits, timeout: .zero))
        case .given(let connections): try? connections.take(within: .zero)
        }
    }

    private func putReservedBack(_ client: VarlinkClient) {
        switch source {
        case .path: reserved.putBack(client)
        case .given(let connections): connections.putBack(client)
        }
    }

    private var notConnected: HolderCallFailed {
        HolderCallFailed(
            kind: .unreachable, error: .holderFailed(name: name, reason: "there is no connection to it to be had"))
    }

    private func answer<Reply>(
        _ result: Result<Reply, VarlinkClientError>, _ client: VarlinkClient,
        _ check: (Reply) throws(ControlError) -> Void
    ) -> Result<Reply, HolderCallFailed> {
        switch result {
        case .success(let reply):
            putReservedBack(client)
            do throws(ControlError) {
                try check(reply)
                return .success(reply)
            } catch {
                return .failure(HolderCallFailed(kind: .invalid, error: error))
            }
        case .failure(let error):
            let kind: CallFailure
            switch error {
            case .reply(let reply):
                // A connection that was turned away is closed by the holder: it is not used again.
                if case .kernelRefused = ControlError(reply) { kind = .refusedForGood } else { kind = .refused }
                if case .wrongState = ControlError(reply) { putReservedBack(client) }
            case .timedOut: kind = .silent
            case .protocolViolation, .notEncodable: kind = .invalid
            case .unavailable, .disconnected, .givenUp, .system: kind = .unreachable
            }
            return .failure(HolderCallFailed(kind: kind, error: failure(of: error, nil)))
        }
    }
}
