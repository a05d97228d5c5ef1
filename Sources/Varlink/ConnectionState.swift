internal import LinuxSystem

/// Why a server closed a connection.
public enum CloseReason: Hashable, Sendable {
    /// The client left, or was left in peace after everything was answered.
    case peerClosed
    case violation(ProtocolViolation)
    /// Nothing came, or a message never ended, within `messageTimeout`.
    case silent
    /// An answered client stayed silent for `idleTimeout`.
    case idle
    /// The client does not read: too many bytes queued, or none taken for `stallTimeout`.
    case stalled
    /// Too many connections; `perUser`: the limit was one user's.
    case crowded(perUser: Bool)
    /// The service has no share for it.
    case notAdmitted
    /// A handler let go of a call without answering it, or its answer does not encode.
    case unanswered(method: String)
    case failed(errno: Int32)
    case serverClosed
}

/// The rules of one connection, apart from its I/O: what is dispatched when, when to read, when to give up.
///
/// Calls are answered in order: the next one is dispatched when the former is answered.
struct ConnectionState {
    enum Action {
        case dispatch(FramedMessage, call: UInt64)
        /// Answer with an error, then close: the stream cannot be followed any further.
        case refuse(ProtocolViolation)
        case close(CloseReason)
    }

    private let limits: VarlinkLimits
    private var framer: MessageFramer
    private(set) var output = OutputQueue()

    /// The call that is being answered.
    private(set) var callInFlight: UInt64?
    private var nextCall: UInt64 = 1
    private var violation: ProtocolViolation?
    /// The client sends no more; what it sent is still answered.
    private(set) var inputEnded = false
    /// The client neither sends nor reads any more.
    private(set) var peerIsGone = false
    /// Set once the connection only waits for its output to drain.
    private(set) var closing: CloseReason?
    /// Since when the client owes us: its first message, the rest of one, or reading its answers.
    private var silentSince: MonotonicInstant
    private(set) var idleSince: MonotonicInstant?
    private var stalledSince: MonotonicInstant?
    /// More was to be queued than may be.
    private var isOverrun = false

    init(limits: VarlinkLimits, now: MonotonicInstant) {
        self.limits = limits
        framer = MessageFramer(messageLimit: limits.messageBytes, descriptorLimit: limits.descriptors)
        silentSince = now
    }

    /// False while enough is buffered: the client then feels it by back-pressure.
    var wantsToRead: Bool {
        closing == nil && violation == nil && !inputEnded
            && (callInFlight == nil || framer.bufferedBytes < limits.messageBytes)
    }

    // MARK: What happened

    mutating func received(_ bytes: [UInt8], descriptors: ReceivedDescriptors, now: MonotonicInstant) {
        if framer.bufferedBytes == 0 && idleSince != nil { silentSince = now }
        idleSince = nil
        do {
            try framer.append(bytes, descriptors: descriptors)
        } catch {
            violation = error
        }
    }

    mutating func inputEndedByPeer() { inputEnded = true }

    mutating func peerDisappeared() {
        inputEnded = true
        peerIsGone = true
        output = OutputQueue()
        stalledSince = nil
    }

    /// Queues an answer, the last one of the call unless it `continues`.
    ///
    /// - Returns: false when it belongs to no call that is under way.
    mutating func answered(
        call: UInt64, _ message: [UInt8], descriptors: [RetainedDescriptor], continues: Bool, now: MonotonicInstant
    ) -> Bool {
        guard callInFlight == call else { return false }
        if !continues {
            callInFlight = nil
            silentSince = now
        }
        queue(message, descriptors: descriptors, now: now)
        return true
    }

    mutating func queue(_ message: [UInt8], descriptors: [RetainedDescriptor] = [], now: MonotonicInstant) {
        guard !peerIsGone, !message.isEmpty else { return }
        // One answer may be as long as it has to be; what is queued after it may not.
        if !output.isEmpty, output.byteCount + message.count > limits.queuedBytes {
            isOverrun = true
            return
        }
        output.append(message, descriptors: descriptors)
        if stalledSince == nil { stalledSince = now }
    }

    mutating func sent(_ count: Int, now: MonotonicInstant) {
        output.consumed(count)
        stalledSince = output.isEmpty ? nil : now
    }

    /// Nothing more is read or dispatched; the connection ends when its output has drained.
    mutating func closeWhenDrained(_ reason: CloseReason) {
        if closing == nil { closing = reason }
        callInFlight = nil
    }

    // MARK: What to do

    /// The next thing to do; nil: wait. Call it until it gives nil.
    mutating func next(now: MonotonicInstant) -> Action? {
        if let closing { return output.isEmpty ? .close(closing) : nil }
        guard !isOverrun else { return .close(.stalled) }
        guard callInFlight == nil else { return nil }
        do throws(ProtocolViolation) {
            if let violation { throw violation }
            if let message = try framer.next() {
                let call = nextCall
                nextCall += 1
                callInFlight = call
                return .dispatch(message, call: call)
            }
        } catch {
            violation = error
            return peerIsGone ? .close(.violation(error)) : .refuse(error)
        }
        if inputEnded, output.isEmpty { return .close(.peerClosed) }
        // What is still in the buffer is a message without its end.
        if framer.bufferedBytes == 0 && nextCall > 1 && idleSince == nil { idleSince = now }
        return nil
    }

    /// When `expired(now:)` has to be asked next.
    var deadline: MonotonicInstant? {
        let stall = stalledSince.map { $0 + limits.stallTimeout }
        guard callInFlight == nil, closing == nil else { return stall }
        let waiting: MonotonicInstant? =
            if let idleSince { limits.idleTimeout.map { idleSince + $0 } } else { silentSince + limits.messageTimeout }
        guard let stall, let waiting else { return stall ?? waiting }
        return min(stall, waiting)
    }

    /// Why the connection must end now, if a deadline has passed.
    func expired(now: MonotonicInstant) -> CloseReason? {
        guard let deadline, deadline <= now else { return nil }
        if let stalledSince, stalledSince + limits.stallTimeout <= now { return .stalled }
        return idleSince == nil ? .silent : .idle
    }
}
