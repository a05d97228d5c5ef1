internal import LinuxSystem
internal import Synchronization

/// The short way of a call's last answer: to the socket at once, from the thread that has it, so that the client need not wait
/// until the loop's thread is awake.
///
/// It is open while nothing else is on its way to the client, so that answers neither mix nor overtake each other.
final class DirectReply: Sendable {
    private let socket: Mutex<RetainedDescriptor?>
    /// Bytes of an answer that goes this way.
    private static let longest = 1 << 16

    /// - Parameter socket: of a connection that has nothing to send, for the call that it dispatches.
    init(_ socket: RetainedDescriptor) { self.socket = Mutex(socket) }

    /// Sends what the socket takes without waiting.
    /// - Returns: what is left for the loop, which hears of every outcome.
    func send(_ outcome: VarlinkCall.Outcome) -> VarlinkCall.Outcome {
        socket.withLock { socket in
            // Whatever this is, the loop's turn comes after it.
            defer { socket = nil }
            guard let socket, case .reply(let message, let descriptors, continues: false) = outcome, !message.isEmpty,
                // A long one could be cut in two, and whether its user has room for the rest is the loop's decision.
                message.count <= Self.longest,
                // The loop will meet the same error, and knows what to do.
                let sent = try? UnixSocket.send(
                    message[...], descriptors: descriptors.map(\.rawValue), on: socket.descriptor),
                case .bytes(let count) = sent
            else { return outcome }
            return .reply(Array(message.dropFirst(count)), [], continues: false)
        }
    }

    /// The loop is about to write to the socket, or to close it.
    func end() { socket.withLock { $0 = nil } }
}
