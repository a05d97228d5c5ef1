internal import LinuxSystem
internal import SystemPackage

/// One client's connection: does the I/O that `ConnectionState` orders. Confined to the loop's thread.
final class ServerConnection {
    let id: UInt64
    let peer: PeerCredentials
    private let share: ClientShare
    private unowned let server: VarlinkServer
    private let loop: EventLoop
    private let limits: VarlinkLimits
    private var state: ConnectionState
    private var socket: RetainedDescriptor?
    private var watch: EventLoop.Watch?
    private var timer: LoopTimer?
    private var timerDeadline: MonotonicInstant?
    /// Cancelled when the client leaves. Weak: whoever answers the call keeps it.
    private weak var currentCall: VarlinkCall?
    /// The current call's short way to the socket.
    private var direct: DirectReply?
    private var currentMethod = ""
    private var currentIsOneway = false
    /// Who answers the call goes on when nothing waits to be sent.
    private var whenTaken: (@Sendable () -> Void)?
    /// Bytes that the server counts as unread by this client.
    private var countedUnread = 0

    init(
        id: UInt64, socket: consuming OwnedDescriptor, peer: PeerCredentials, share: ClientShare, server: VarlinkServer
    ) throws(LinuxError) {
        self.id = id
        self.peer = peer
        self.share = share
        self.server = server
        loop = server.loop
        var limits = server.limits
        limits.idleTimeout = share.idleTimeout
        self.limits = limits
        state = ConnectionState(limits: limits, now: .now)
        let shared = RetainedDescriptor(socket)
        self.socket = shared
        watch = try loop.watch(shared.rawValue, for: [.readable, .readingEnded]) { [unowned self] events in
            self.ready(events)
        }
        updateTimer()
    }

    /// As it counts when another client connects.
    var place: ConnectionPlaces.Held {
        ConnectionPlaces.Held(
            id: id, uid: peer.uid, rank: share.rank, connections: share.connections,
            idleSince: state.output.isEmpty ? state.idleSince : nil)
    }

    /// Bytes wait until the client reads.
    var hasUnsentOutput: Bool { socket != nil && !state.output.isEmpty }

    // MARK: Events

    private func ready(_ events: ReadyEvents) {
        if !events.isDisjoint(with: [.readable, .readingEnded, .hangUp, .error]) { read() }
        // With reading paused the end of the stream would never be seen.
        if !events.isDisjoint(with: [.hangUp, .error]), !state.wantsToRead { disappeared() }
        pump()
    }

    private static let readSize = 1 << 16

    /// Reads a bounded amount, so that one client cannot keep the loop from the others.
    private func read() {
        for _ in 0..<8 {
            guard let socket, state.wantsToRead else { return }
            do throws(LinuxError) {
                switch try UnixSocket.receive(
                    upTo: Self.readSize, maximumDescriptors: limits.descriptors, from: socket.descriptor)
                {
                case .bytes(let bytes, let descriptors):
                    state.received(bytes, descriptors: descriptors, now: .now)
                    pump()
                    // Most likely there is no more, and the loop reports what there is.
                    if bytes.count < Self.readSize { return }
                case .endOfStream: return state.inputEndedByPeer()
                case .wouldBlock: return
                }
            } catch {
                if error.errno == .messageTooLong {
                    refuse(.tooManyDescriptors(limit: limits.descriptors))
                } else {
                    disappeared()
                }
                return
            }
        }
    }

    private func disappeared() {
        guard socket != nil else { return }
        state.peerDisappeared()
        releaseSocket()
        currentCall?.cancel()
        whenTaken = nil
    }

    func answered(call: UInt64, _ outcome: VarlinkCall.Outcome) {
        guard hasRoom(for: outcome) else {
            // Of several answers none can be left out.
            guard case .reply(_, _, continues: false) = outcome else { return close(.stalled) }
            let refusal = server.refusal(.tooMuchUnread(limitBytes: share.unreadBytesPerUser)).message
            _ = state.answered(call: call, refusal, descriptors: [], continues: false, now: .now)
            return pump()
        }
        switch outcome {
        case .reply(let message, let descriptors, let continues):
            _ = state.answered(
                call: call, message, descriptors: descriptors, continues: continues, now: .now)
        case .part(let message, let whenTaken):
            if state.answered(call: call, message, descriptors: [], continues: true, now: .now), !state.peerIsGone {
                self.whenTaken = whenTaken
            }
        case .abandoned:
            guard state.callInFlight == call else { return }
            // A oneway call needs no answer: letting go of it is the end of it.
            if currentIsOneway || state.peerIsGone {
                _ = state.answered(call: call, [], descriptors: [], continues: false, now: .now)
            } else {
                return close(.unanswered(method: currentMethod))
            }
        }
        pump()
    }

    /// Whether an answer may wait for its client beside what its user's clients have not read.
    private func hasRoom(for outcome: VarlinkCall.Outcome) -> Bool {
        let unread = server.unreadBytes(of: peer.uid)
        guard unread > 0 else { return true }
        switch outcome {
        case .abandoned: return true
        case .reply(let message, _, _), .part(let message, _):
            // The rest of an answer that the socket has taken the beginning of must follow.
            return message.isEmpty || unread + message.count <= share.unreadBytesPerUser
        }
    }

    private func countUnread() {
        let bytes = socket == nil ? 0 : state.output.byteCount
        guard bytes != countedUnread else { return }
        server.unreadChanged(of: peer.uid, by: bytes - countedUnread)
        countedUnread = bytes
    }

    // MARK: Work

    private func pump() {
        defer { countUnread() }
        var before: Int
        repeat {
            while let action = state.next(now: .now) {
                switch action {
                case .dispatch(let message, let call): dispatch(message, call)
                case .refuse(let violation): refuse(violation)
                case .close(let reason): return close(reason)
                }
            }
            before = state.output.byteCount
            flush()
        } while state.output.byteCount != before
        updateInterest()
        updateTimer()
        guard state.output.isEmpty, let whenTaken else { return }
        self.whenTaken = nil
        whenTaken()
    }

    private func dispatch(_ message: FramedMessage, _ call: UInt64) {
        let header: CallHeader
        do {
            header = try MessageCoding.header(CallHeader.self, of: message.bytes, depthLimit: limits.nestingDepth)
        } catch {
            return refuse(error)
        }
        currentMethod = header.method
        currentIsOneway = header.oneway ?? false
        if state.peerIsGone && !currentIsOneway {
            _ = state.answered(call: call, [], descriptors: [], continues: false, now: .now)
            return
        }
        let loop = loop
        let id = id
        let direct = state.output.isEmpty ? socket.map { DirectReply($0) } : nil
        self.direct = direct
        let object = VarlinkCall(header: header, message: message, peer: peer) { [weak server] outcome in
            let rest = direct?.send(outcome) ?? outcome
            loop.perform { [weak server] in server?.deliver(rest, call: call, connection: id) }
        }
        currentCall = object
        server.handle(object, parameters: header.parameters, upgrade: header.upgrade ?? false)
    }

    /// Sends what was wrong, then ends the connection: where the next message begins is anyone's guess.
    private func refuse(_ violation: ProtocolViolation) {
        currentCall?.cancel()
        whenTaken = nil
        direct?.end()
        state.queue(server.refusal(.violation(violation)).message, now: .now)
        state.closeWhenDrained(.violation(violation))
    }

    private func flush() {
        while let socket, let segment = state.output.first {
            do throws(LinuxError) {
                let sent = try UnixSocket.send(
                    segment.bytes, descriptors: segment.descriptors.map(\.rawValue), on: socket.descriptor)
                switch sent {
                case .bytes(let count): state.sent(count, now: .now)
                case .wouldBlock: return
                }
            } catch {
                disappeared()
            }
        }
    }

    private func updateInterest() {
        guard let watch else { return }
        var interest: ReadyEvents = []
        if state.wantsToRead { interest.formUnion([.readable, .readingEnded]) }
        if !state.output.isEmpty { interest.insert(.writable) }
        watch.change(to: interest)
    }

    private func updateTimer() {
        guard let deadline = state.deadline, socket != nil else { return }
        if let timerDeadline, timerDeadline <= deadline { return }
        timer?.cancel()
        timerDeadline = deadline
        timer = loop.schedule(after: deadline - .now) { [unowned self] in
            self.timer = nil
            self.timerDeadline = nil
            if let reason = self.state.expired(now: .now) { self.close(reason) } else { self.updateTimer() }
        }
    }

    private func releaseSocket() {
        direct?.end()
        watch?.cancel()
        watch = nil
        timer?.cancel()
        timer = nil
        timerDeadline = nil
        socket = nil
        countUnread()
    }

    func close(_ reason: CloseReason) {
        releaseSocket()
        currentCall?.cancel()
        whenTaken = nil
        server.closed(self, reason)
    }
}
