internal import Synchronization
internal import Varlink

/// Connections to one holder that no call uses at the moment. Making one costs both sides more than a small call does.
final class IdleConnections: Sendable {
    /// More than this are not worth the descriptors.
    static let most = 2

    private let clients = Mutex<[VarlinkClient]>([])

    /// Nil when there is none.
    func take() -> VarlinkClient? { clients.withLock { $0.popLast() } }

    /// - Parameter client: whose last call has been answered.
    func putBack(_ client: VarlinkClient) {
        clients.withLock { clients in
            if clients.count < Self.most { clients.append(client) }
        }
    }
}
