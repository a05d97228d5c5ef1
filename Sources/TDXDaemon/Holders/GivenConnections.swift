internal import LinuxSystem
internal import Varlink

/// Connections that a process has made for tdxd to call it on. A call takes one and puts it back; one on which a call has
/// failed is closed, and the process, which sees that, brings another.
final class GivenConnections: Sendable {
    /// The most that one process may have open.
    static let most = 8

    private let clients = Monitor<[VarlinkClient]>([])

    /// Those that are more than `most` are closed.
    func add(_ connections: [VarlinkClient]) {
        clients.update { clients in
            clients = Array((connections + clients).prefix(Self.most))
        }
    }

    /// The newest is taken first.
    func putBack(_ client: VarlinkClient) { clients.update { $0.insert(client, at: 0) } }

    /// One of several that are free; the last one is for calls that do not last.
    func takeSpare() -> VarlinkClient? {
        clients.update(waking: .nobody) { $0.count > 1 ? $0.removeFirst() : nil }
    }

    /// Waits until a call can be made.
    func take(within limit: Duration) throws(VarlinkClientError) -> VarlinkClient {
        let client = clients.wait(milliseconds: Int(clamping: limit.wholeMilliseconds)) { clients in
            clients.isEmpty ? nil : clients.removeFirst()
        }
        guard let client else { throw .timedOut(after: limit) }
        return client
    }
}
