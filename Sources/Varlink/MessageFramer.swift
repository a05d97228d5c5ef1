internal import LinuxSystem

/// One message off the wire, without its terminator.
struct FramedMessage {
    var bytes: [UInt8]
    var descriptors: ReceivedDescriptors
}

/// What a peer did that the protocol forbids.
public enum ProtocolViolation: Error, Hashable, Sendable {
    case messageTooLong(limit: Int)
    case tooManyDescriptors(limit: Int)
    case nestedTooDeeply(limit: Int)
    case notJSON(String)
    case notAMessage(String)
}

extension ProtocolViolation: CustomStringConvertible {
    public var description: String {
        switch self {
        case .messageTooLong(let limit): "the message is longer than \(limit) bytes"
        case .tooManyDescriptors(let limit): "more than \(limit) file descriptors came along"
        case .nestedTooDeeply(let limit): "the message is nested deeper than \(limit) levels"
        case .notJSON(let reason): "the message is not JSON: \(reason)"
        case .notAMessage(let reason): "the message is not a varlink message: \(reason)"
        }
    }
}

/// Cuts a byte stream into messages, each ended by a NUL byte, and keeps passed descriptors with their message.
///
/// Descriptors belong to the message that the last byte of the read they came with is part of
/// (see `UnixSocket.receive`).
struct MessageFramer {
    let messageLimit: Int
    let descriptorLimit: Int

    /// Bytes not yet given out begin at `start`; none of those before `scanned` is a terminator.
    private var buffer: [UInt8] = []
    private var start = 0
    private var scanned = 0
    /// Where in the whole stream `buffer` begins.
    private var bufferPosition = 0
    private var waiting: [(position: Int, descriptors: ReceivedDescriptors)] = []

    init(messageLimit: Int, descriptorLimit: Int) {
        self.messageLimit = messageLimit
        self.descriptorLimit = descriptorLimit
    }

    /// Bytes that are kept for messages to come.
    var bufferedBytes: Int { buffer.count - start }

    mutating func append(_ bytes: [UInt8], descriptors: ReceivedDescriptors) throws(ProtocolViolation) {
        if start > 0, start == buffer.count || start > 1 << 16 {
            buffer.removeFirst(start)
            bufferPosition += start
            scanned -= start
            start = 0
        }
        buffer.append(contentsOf: bytes)
        guard descriptors.count > 0 else { return }
        waiting.append((bufferPosition + buffer.count - 1, descriptors))
        guard waiting.reduce(0, { $0 + $1.descriptors.count }) <= descriptorLimit else {
            throw .tooManyDescriptors(limit: descriptorLimit)
        }
    }

    /// The next whole message; nil until its terminator has arrived.
    ///
    /// - Throws: `messageTooLong` as soon as it is clear, terminated or not.
    mutating func next() throws(ProtocolViolation) -> FramedMessage? {
        guard let end = buffer[scanned...].firstIndex(of: 0) else {
            scanned = buffer.count
            guard bufferedBytes <= messageLimit else { throw .messageTooLong(limit: messageLimit) }
            return nil
        }
        guard end - start <= messageLimit else { throw .messageTooLong(limit: messageLimit) }
        let message = FramedMessage(bytes: Array(buffer[start..<end]), descriptors: ReceivedDescriptors())
        while let first = waiting.first, first.position <= bufferPosition + end {
            message.descriptors.append(from: first.descriptors)
            waiting.removeFirst()
        }
        start = end + 1
        scanned = start
        return message
    }
}
